//! The few PDUs of SMPP 3.4 that a client needs, in bytes, and the simulated centre with it. What
//! others send is read leniently: real message centres leave fields out, make them too long, and
//! put bytes behind them.

/// The bytes of a header.
const HEADER: usize = 16;
/// The longest PDU that is read; those that are known take less than 400 bytes.
const LENGTH_MAX: usize = 64 * 1024;
/// Marks an answer.
pub(crate) const ANSWER: u32 = 0x8000_0000;
/// "I cannot read this."
pub(crate) const GENERIC_NACK: u32 = 0x8000_0000;
/// Log on for both directions.
pub(crate) const BIND_TRANSCEIVER: u32 = 0x09;
/// Here is a message.
pub(crate) const SUBMIT_SM: u32 = 0x04;
/// Here is a message or a receipt for you.
pub(crate) const DELIVER_SM: u32 = 0x05;
/// Log off.
pub(crate) const UNBIND: u32 = 0x06;
/// Are you there?
pub(crate) const ENQUIRE_LINK: u32 = 0x15;

/// The id of a receipt's message.
pub(crate) const RECEIPTED_MESSAGE_ID: u16 = 0x001e;
/// The error of the network.
pub(crate) const NETWORK_ERROR_CODE: u16 = 0x0423;
/// A text that stands here and not in its own field.
const MESSAGE_PAYLOAD: u16 = 0x0424;
/// What became of a receipt's message.
pub(crate) const MESSAGE_STATE: u16 = 0x0427;

/// A PDU. It may hold a password or a code, so it does not print.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pdu {
    /// What it is.
    pub(crate) id: u32,
    /// What came of it, in answers; 0 is well.
    pub(crate) status: u32,
    /// The number that request and answer share.
    pub(crate) sequence: u32,
    /// The rest.
    pub(crate) body: Vec<u8>,
}

/// These bytes are no PDU, and nobody knows where the next one begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

impl Pdu {
    /// A request.
    pub(crate) fn request(id: u32, sequence: u32, body: Vec<u8>) -> Self {
        Self { id, status: 0, sequence, body }
    }

    /// The answer to a request. One to `deliver_sm` holds an id that is always empty.
    pub(crate) fn answer(&self, status: u32) -> Self {
        let body = if self.id == DELIVER_SM { vec![0] } else { vec![] };
        Self { id: self.id | ANSWER, status, sequence: self.sequence, body }
    }

    /// As it goes over the wire.
    /// A byte.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let header = [length, self.id, self.status, self.sequence].map(u32::to_be_bytes);
        [header.as_flattened(), &self.body].concat()
    }

    /// Cuts the first whole PDU off what was read; `None` if there is none yet.
    pub(crate) fn cut(read: &mut Vec<u8>) -> Result<Option<Self>, Garbled> {
        let word = |at: usize| {
            let bytes = read.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let Some(length) = word(0) else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(HEADER..=LENGTH_MAX).contains(&length) {
            return Err(Garbled);
        }
        if read.len() < length {
            return Ok(None);
        }
        let (Some(id), Some(status), Some(sequence)) = (word(4), word(8), word(12)) else {
            return Err(Garbled);
        };
        let whole: Vec<u8> = read.drain(..length).collect();
        Ok(Some(Self { id, status, sequence, body: whole[HEADER..].to_vec() }))
    }
}

/// A text with its end.
fn put(body: &mut Vec<u8>, text: &str) {
    // A zero within would end the text early, and nothing of ours holds one.
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.push(0);
}

/// A log-on.
pub(crate) fn bind(system_id: &str, password: &str, system_type: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, system_id);
    put(&mut body, password);
    put(&mut body, system_type);
    // The version, then no range of addresses that we would serve.
    body.extend([0x34, 0, 0, 0]);
    body
}

/// Who sends, or gets, a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The type of number.
    pub(crate) ton: u8,
    /// The numbering plan.
    pub(crate) npi: u8,
    /// The number or name.
    pub(crate) text: String,
}

/// A message.
pub(crate) struct Submit<'a> {
    pub(crate) service_type: &'a str,
    pub(crate) source: &'a Address,
    /// To whom, without `+`.
    pub(crate) to: &'a str,
    /// 0x40 where a header stands before the text.
    pub(crate) esm_class: u8,
    pub(crate) data_coding: u8,
    /// At most 254 bytes.
    pub(crate) text: &'a [u8],
}

impl Submit<'_> {
    /// Its body. A receipt is asked for.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, self.service_type);
        body.extend([self.source.ton, self.source.npi]);
        put(&mut body, &self.source.text);
        body.extend([1, 1]);
        put(&mut body, self.to);
        // Class, protocol, priority; neither a time to send at nor one to give up at.
        body.extend([self.esm_class, 0, 0, 0, 0]);
        // A receipt whatever comes of it; nothing is replaced; no message of the centre's.
        body.extend([1, 0, self.data_coding, 0]);
        body.push(u8::try_from(self.text.len()).unwrap_or(u8::MAX));
        body.extend(self.text);
        body
    }
}

/// Reads fields off the front of a body.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// A text, up to its end or the body's.
    pub(crate) fn text(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let text = self.take(length).unwrap_or_default();
        self.byte();
        text
    }

    /// A number of two bytes.
    pub(crate) fn number(&mut self) -> Option<u16> {
        self.take(2).map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }
}

/// The text at the front of a body: the centre's name for a message, in `submit_sm_resp`.
pub(crate) fn first_text(body: &[u8]) -> &[u8] {
    Fields(body).text()
}

/// What the centre delivers.
pub(crate) struct Delivered<'a> {
    /// Who sent it; in a receipt, who got the message.
    pub(crate) source: &'a [u8],
    /// What it is.
    pub(crate) esm_class: u8,
    /// The text.
    pub(crate) text: &'a [u8],
    tlvs: Vec<(u16, &'a [u8])>,
}

impl<'a> Delivered<'a> {
    /// Reads the body of a `deliver_sm`.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        fields.text(); // service type
        fields.take(2)?; // the source's type and plan
        let source = fields.text();
        fields.take(2)?;
        fields.text(); // the destination
        let esm_class = fields.byte()?;
        fields.take(2)?; // protocol and priority
        fields.text(); // a time to send at
        fields.text(); // a time to give up at
        fields.take(4)?; // receipts, replacing, coding, message of the centre's
        let length = usize::from(fields.byte()?);
        let text = fields.take(length)?;
        let mut tlvs = Vec::new();
        while let (Some(tag), Some(length)) = (fields.number(), fields.number()) {
            // What breaks off is passed over, and so are bytes that are no field.
            let Some(value) = fields.take(usize::from(length)) else { break };
            tlvs.push((tag, value));
        }
        let mut read = Self { source, esm_class, text, tlvs };
        if read.text.is_empty() {
            read.text = read.tlv(MESSAGE_PAYLOAD).unwrap_or_default();
        }
        Some(read)
    }

    /// An optional field.
    pub(crate) fn tlv(&self, wanted: u16) -> Option<&'a [u8]> {
        self.tlvs.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value)
    }
}
