// A client by somebody else (npm `smpp`) for the message centre of `countersign simulate`. It binds
// with what it is given, sends one text in GSM 03.38 and one in UCS-2, waits for both receipts, is
// refused what is wrong, and leaves. Every step is a line of JSON on the standard output.
'use strict'
const smpp = require('smpp')

const [port, systemId, password] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const session = smpp.connect({ url: `smpp://127.0.0.1:${port}` })
const ask = (name, fields) => new Promise((resolve) => session[name](fields, resolve))
const receipts = new Map()

session.on('error', (error) => say({ event: 'error', text: String(error) }))
session.on('enquire_link', (pdu) => session.send(pdu.response()))
session.on('deliver_sm', (pdu) => {
  receipts.set(pdu.receipted_message_id, pdu)
  session.send(pdu.response())
})

const submit = (to, text, more = {}) => ask('submit_sm', {
  source_addr_ton: 5, source_addr_npi: 0, source_addr: 'Acme',
  dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: to,
  registered_delivery: 1, short_message: text, ...more
})

const receipt = async (id) => {
  for (let tries = 0; tries < 500 && !receipts.has(id); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const pdu = receipts.get(id)
  if (!pdu) return null
  const text = pdu.short_message.message.toString()
  return { state: pdu.message_state, from: pdu.source_addr, stat: /stat:(\w+)/.exec(text)[1] }
}

session.on('connect', async () => {
  const early = await submit('8613800138000', 'too early')
  say({ event: 'early', status: early.command_status })
  const bound = await ask('bind_transceiver', { system_id: systemId, password })
  say({ event: 'bind', status: bound.command_status, as: bound.system_id })
  if (bound.command_status !== 0) return session.destroy()
  const asked = await ask('enquire_link', {})
  say({ event: 'enquire_link', status: asked.command_status })
  for (const [to, text] of [['8613800138001', 'Your code is 482913.'], ['8613800138002', '您的验证码是004217。']]) {
    const sent = await submit(to, text)
    say({ event: 'sent', status: sent.command_status, receipt: await receipt(sent.message_id) })
  }
  const wrong = await submit('+8613800138003', 'x')
  say({ event: 'wrong', status: wrong.command_status })
  const query = await ask('query_sm', { message_id: '1' })
  say({ event: 'query', status: query.command_status })
  const left = await ask('unbind', {})
  say({ event: 'unbind', status: left.command_status })
  session.close()
})
