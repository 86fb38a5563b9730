//! The few PDUs of SMPP 3.4 that a client needs, in bytes. What others send is read leniently: real
//! message centres leave fields out, make them too long, and put bytes behind them.

/// The bytes of a header.
const HEADER: usize = 16;
/// The longest PDU that is read; those that are known take less than 400 bytes.
const LENGTH_MAX: usize = 64 * 1024;
/// Marks an answer.
pub(super) const ANSWER: u32 = 0x8000_0000;
/// "I cannot read this."
pub(super) const GENERIC_NACK: u32 = 0x8000_0000;
/// Log on for both directions.
pub(super) const BIND_TRANSCEIVER: u32 = 0x09;
/// Here is a message.
pub(super) const SUBMIT_SM: u32 = 0x04;
/// Here is a message or a receipt for you.
pub(super) const DELIVER_SM: u32 = 0x05;
/// Log off.
pub(super) const UNBIND: u32 = 0x06;
/// Are you there?
pub(super) const ENQUIRE_LINK: u32 = 0x15;

/// The id of a receipt's message.
pub(super) const RECEIPTED_MESSAGE_ID: u16 = 0x001e;
/// The error of the network.
pub(super) const NETWORK_ERROR_CODE: u16 = 0x0423;
/// A text that stands here and not in its own field.
const MESSAGE_PAYLOAD: u16 = 0x0424;
/// What became of a receipt's message.
pub(super) const MESSAGE_STATE: u16 = 0x0427;

/// A PDU. It may hold a password or a code, so it does not print.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pdu {
    /// What it is.
    pub(super) id: u32,
    /// What came of it, in answers; 0 is well.
    pub(super) status: u32,
    /// The number that request and answer share.
    pub(super) sequence: u32,
    /// The rest.
    pub(super) body: Vec<u8>,
}

/// These bytes are no PDU, and nobody knows where the next one begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled;

impl Pdu {
    /// A request.
    pub(super) fn request(id: u32, sequence: u32, body: Vec<u8>) -> Self {
        Self { id, status: 0, sequence, body }
    }

    /// The answer to a request. One to `deliver_sm` holds an id that is always empty.
    pub(super) fn answer(&self, status: u32) -> Self {
        let body = if self.id == DELIVER_SM { vec![0] } else { vec![] };
        Self { id: self.id | ANSWER, status, sequence: self.sequence, body }
    }

    /// As it goes over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let header = [length, self.id, self.status, self.sequence].map(u32::to_be_bytes);
        [header.as_flattened(), &self.body].concat()
    }

    /// Cuts the first whole PDU off what was read; `None` if there is none yet.
    pub(super) fn cut(read: &mut Vec<u8>) -> Result<Option<Self>, Garbled> {
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
pub(super) fn bind(system_id: &str, password: &str, system_type: &str) -> Vec<u8> {
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
pub(super) struct Address {
    /// The type of number.
    pub(super) ton: u8,
    /// The numbering plan.
    pub(super) npi: u8,
    /// The number or name.
    pub(super) text: String,
}

/// A message.
pub(super) struct Submit<'a> {
    pub(super) service_type: &'a str,
    pub(super) source: &'a Address,
    /// To whom, without `+`.
    pub(super) to: &'a str,
    /// 0x40 where a header stands before the text.
    pub(super) esm_class: u8,
    pub(super) data_coding: u8,
    /// At most 254 bytes.
    pub(super) text: &'a [u8],
}

impl Submit<'_> {
    /// Its body. A receipt is asked for.
    pub(super) fn body(&self) -> Vec<u8> {
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
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// A text, up to its end or the body's.
    fn text(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let text = self.take(length).unwrap_or_default();
        self.byte();
        text
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }
}

/// The text at the front of a body: the centre's name for a message, in `submit_sm_resp`.
pub(super) fn first_text(body: &[u8]) -> &[u8] {
    Fields(body).text()
}

/// What the centre delivers.
pub(super) struct Delivered<'a> {
    /// Who sent it; in a receipt, who got the message.
    pub(super) source: &'a [u8],
    /// What it is.
    pub(super) esm_class: u8,
    /// The text.
    pub(super) text: &'a [u8],
    tlvs: Vec<(u16, &'a [u8])>,
}

impl<'a> Delivered<'a> {
    /// Reads the body of a `deliver_sm`.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
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
    pub(super) fn tlv(&self, wanted: u16) -> Option<&'a [u8]> {
        self.tlvs.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value)
    }
}
