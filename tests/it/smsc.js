// A message centre by somebody else (npm `smpp`), for tests/it/smpp.rs. What it does with a message
// depends on the number's last two digits, or on the argument for all of them. Every message is a
// line of JSON on the standard output.
'use strict'
const smpp = require('smpp')

const cut = process.argv[2] || 'never'
let ids = 0xa0
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

const receipt = (session, pdu, id, state, word, error) => {
  // In decimal here and in hexadecimal in the answer, as some centres do.
  const text = `id:${id} sub:001 dlvrd:001 submit date:2501011630 done date:2501011631 ` +
    `stat:${word} err:${error} text:`
  const deliver = {
    source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr,
    destination_addr: pdu.source_addr, esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT,
    short_message: text
  }
  if (state !== 0) {
    Object.assign(deliver, { receipted_message_id: id.toString(16), message_state: state })
  }
  session.deliver_sm(deliver, (answer) => say({ event: 'receipt', status: answer.command_status }))
}

const server = smpp.createServer((session) => {
  say({ event: 'connection' })
  session.on('error', () => {})
  if (cut === 'connection') return session.destroy()
  session.on('bind_transceiver', (pdu) => {
    say({ event: 'bind', version: pdu.interface_version })
    if (cut === 'bind') return session.destroy()
    const good = pdu.system_id === 'smpp1' && pdu.password === 'secret08'
    session.send(pdu.response({ command_status: good ? 0 : smpp.ESME_RINVPASWD, system_id: 'SMSC' }))
    if (cut === 'bound') setTimeout(() => session.destroy(), 20)
  })
  session.on('bind_transmitter', (pdu) => {
    const good = pdu.system_id === 'smpp1' && pdu.password === 'secret08'
    session.send(pdu.response({ command_status: good ? 0 : smpp.ESME_RINVPASWD, system_id: 'SMSC' }))
  })
  session.on('enquire_link', (pdu) => session.send(pdu.response()))
  session.on('unbind', (pdu) => {
    say({ event: 'unbind' })
    session.send(pdu.response())
    session.close()
  })
  session.on('submit_sm', (pdu) => {
    const number = pdu.destination_addr
    say({ event: 'message', to: number, text: pdu.short_message.message, coding: pdu.data_coding })
    if (cut === 'message' || number.endsWith('77')) return session.destroy()
    if (number.endsWith('11')) {
      return session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR }))
    }
    const id = ids++
    const answer = pdu.response({ message_id: id.toString(16) })
    if (cut === 'answer') return session.send(answer, null, () => session.destroy())
    session.send(answer)
    if (number.endsWith('99')) return receipt(session, pdu, id, 5, 'UNDELIV', '027')
    if (number.endsWith('22')) return receipt(session, pdu, id, 0, 'DELIVRD', '000')
    receipt(session, pdu, id, 2, 'DELIVRD', '000')
  })
})
server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port }))
