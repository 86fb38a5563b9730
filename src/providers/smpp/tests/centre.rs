//! A message centre on a port of this machine that follows a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::providers::smpp::pdu::{self, Pdu};

/// What the centre does with one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// Closes at once.
    CloseAtOnce,
    /// Reads the log-on and closes.
    CloseAtBind,
    /// Reads the log-on and says nothing.
    SilentAtBind,
    /// Answers the log-on with this.
    Bind(Vec<u8>),
    /// Refuses the log-on.
    Refuse(u32),
    /// Takes the log-on, and closes a moment later.
    CloseAfterBind,
    /// Takes messages, with an answer for each in turn; the last one for all after it.
    Serve(Vec<Answer>),
}

/// What the centre does with one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Takes it, under the message's number in hexadecimal.
    Take,
    /// Takes it and gives it no name.
    TakeNameless,
    /// Refuses it.
    Refuse(u32),
    /// "I cannot read this."
    Nack,
    /// Nothing.
    Silence,
    /// Closes.
    Close,
    /// Half an answer, then closes.
    Half,
    /// Bytes that are no PDU.
    Garbage,
    /// Takes it after so many milliseconds.
    Late(u64),
    /// Takes it, and delivers this text as a receipt, with `{id}` for its name.
    Receipt(&'static str),
    /// The receipt before the answer.
    ReceiptFirst(&'static str),
    /// Takes it, logs off, and closes.
    Unbind,
}

/// What reached the centre.
#[derive(Default)]
pub(super) struct Seen {
    /// The PDUs, in order, over all connections.
    pub(super) pdus: Vec<(usize, Pdu)>,
    /// How many messages waited for an answer at most.
    pub(super) waited: usize,
}

impl Seen {
    /// How many PDUs there were of this kind.
    pub(super) fn count(&self, id: u32) -> usize {
        self.pdus.iter().filter(|(_, pdu)| pdu.id == id).count()
    }
}

/// A centre that follows these scripts, a connection each; the last one for all after it.
pub(super) async fn centre(scripts: Vec<Script>) -> (String, Arc<Mutex<Seen>>) {
    centre_over(None, scripts).await
}

/// The same over TLS, where there is something to speak it with.
#[expect(clippy::disallowed_methods, reason = "the centre ends with the test's runtime")]
pub(super) async fn centre_over(
    tls: Option<&TlsAcceptor>,
    scripts: Vec<Script>,
) -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "smpps" } else { "smpp" };
    let (base_url, tls) = (format!("{scheme}://{}", listener.local_addr().unwrap()), tls.cloned());
    let seen = Arc::<Mutex<Seen>>::default();
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut scripts = VecDeque::from(scripts);
        let mut connection = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let next =
                if scripts.len() > 1 { scripts.pop_front() } else { scripts.front().cloned() };
            let (next, record, tls) = (next.unwrap(), Arc::clone(&record), tls.clone());
            tokio::spawn(async move {
                let Some(tls) = tls else {
                    return converse(stream, next, connection, record).await;
                };
                if let Ok(stream) = tls.accept(stream).await {
                    converse(stream, next, connection, record).await;
                }
            });
            connection += 1;
        }
    });
    (base_url, seen)
}

/// One connection.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    script: Script,
    connection: usize,
    seen: Arc<Mutex<Seen>>,
) {
    let (mut read, mut answers) = (Vec::new(), VecDeque::new());
    let mut waiting = VecDeque::<(tokio::time::Instant, Vec<u8>)>::new();
    if script == Script::CloseAtOnce {
        return;
    }
    if let Script::Serve(list) = &script {
        answers.extend(list.clone());
    }
    loop {
        if let Some(pdu) = Pdu::cut(&mut read).unwrap() {
            seen.lock().unwrap().pdus.push((connection, pdu.clone()));
            if pdu.id == pdu::SUBMIT_SM {
                let next =
                    if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
                let next = next.unwrap();
                if let Answer::Late(millis) = next {
                    let at = tokio::time::Instant::now() + Duration::from_millis(millis);
                    waiting.push_back((at, taken(&pdu).bytes()));
                    let mut seen = seen.lock().unwrap();
                    seen.waited = seen.waited.max(waiting.len());
                } else if !answer(&mut stream, &pdu, next).await {
                    return;
                }
            } else if !other(&mut stream, &pdu, &script).await {
                return;
            }
            continue;
        }
        let due =
            waiting.front().map_or(tokio::time::Instant::now() + Duration::from_mins(1), |it| it.0);
        tokio::select! {
            length = stream.read_buf(&mut read) => if length.unwrap_or(0) == 0 { return },
            () = tokio::time::sleep_until(due) => {
                let (_, bytes) = waiting.pop_front().unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    }
}

/// What is no message. Says whether it goes on.
async fn other<S: AsyncWrite + Unpin>(stream: &mut S, pdu: &Pdu, script: &Script) -> bool {
    let bind = [pdu::BIND_TRANSCEIVER, super::BIND_TRANSMITTER].contains(&pdu.id);
    let mut welcome = pdu.answer(0);
    welcome.body = b"SMSC\0".to_vec();
    let bytes = match script {
        _ if pdu.id & pdu::ANSWER != 0 => return true,
        Script::CloseAtBind if bind => return false,
        Script::SilentAtBind => return true,
        Script::Bind(bytes) => bytes.clone(),
        Script::Refuse(status) if bind => pdu.answer(*status).bytes(),
        _ if bind => welcome.bytes(),
        _ => pdu.answer(0).bytes(),
    };
    let written = stream.write_all(&bytes).await.is_ok();
    if *script == Script::CloseAfterBind {
        tokio::time::sleep(Duration::from_millis(50)).await;
        return false;
    }
    written && pdu.id != pdu::UNBIND
}

fn taken(pdu: &Pdu) -> Pdu {
    let mut answer = pdu.answer(0);
    answer.body = format!("{:x}\0", pdu.sequence + 100).into_bytes();
    answer
}

fn receipt(pdu: &Pdu, text: &str) -> Vec<u8> {
    let text = text.replace("{id}", &(pdu.sequence + 100).to_string());
    let mut body = b"\0\x01\x018613800138000\0\x05\0Acme\0".to_vec();
    body.extend([4, 0, 0, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
    body.extend(text.as_bytes());
    Pdu::request(pdu::DELIVER_SM, 77, body).bytes()
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, pdu: &Pdu, answer: Answer) -> bool {
    let taken = taken(pdu).bytes();
    let (bytes, goes_on) = match answer {
        Answer::Take | Answer::Late(_) => (taken, true),
        Answer::TakeNameless => (Pdu { body: vec![], ..pdu.answer(0) }.bytes(), true),
        Answer::Refuse(status) => (pdu.answer(status).bytes(), true),
        Answer::Nack => {
            let nack = Pdu { id: pdu::GENERIC_NACK, ..pdu.answer(2) };
            (nack.bytes(), true)
        }
        Answer::Silence => (vec![], true),
        Answer::Close => (vec![], false),
        Answer::Half => (taken[..taken.len() / 2].to_vec(), false),
        Answer::Garbage => (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), true),
        Answer::Receipt(text) => ([taken, receipt(pdu, text)].concat(), true),
        Answer::ReceiptFirst(text) => ([receipt(pdu, text), taken].concat(), true),
        Answer::Unbind => {
            let unbind = Pdu::request(pdu::UNBIND, 9, vec![]).bytes();
            ([taken, unbind].concat(), true)
        }
    };
    stream.write_all(&bytes).await.is_ok() && goes_on
}
