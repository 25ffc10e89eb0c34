//! ttrpc's frames: a header of ten bytes (length, stream, kind, flags; big endian) and a message.

use prost::Message as _;

use crate::messages::google::Status;
use crate::messages::ttrpc::{Request, Response};

/// The maximum length of a message.
pub const LIMIT: usize = 4 << 20;
const HEADER: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A received frame.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// A request on this stream.
    Request(u32, Request),
    /// The answer to our request on this stream.
    Response(u32, Response),
    /// A message on this stream that is larger than the limit, or does not match its header. It was skipped.
    Bad(u32, Status),
}

/// Received bytes that are not yet a whole frame.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// The remaining bytes of a message that is too large.
    passed_over: usize,
}

impl Inbox {
    /// Adds received bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        let over = self.passed_over.min(bytes.len());
        self.passed_over -= over;
        self.bytes.extend_from_slice(&bytes[over..]);
    }

    /// The memory that they take.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// The next whole frame. Unknown kinds (streams) are skipped.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            let header: [u8; HEADER] = self.bytes.get(..HEADER)?.try_into().ok()?;
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let stream = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            if length > LIMIT {
                let here = self.bytes.len().min(HEADER + length);
                self.passed_over = HEADER + length - here;
                self.bytes.drain(..here);
                let message = format!("message length {length} exceed maximum message size of {LIMIT}");
                return Some(Frame::Bad(stream, Status { code: 8, message }));
            }
            if self.bytes.len() < HEADER + length {
                return None;
            }
            let payload = &self.bytes[HEADER..HEADER + length];
            let frame = match header[8] {
                REQUEST => Some(Request::decode(payload).map(|request| Frame::Request(stream, request))),
                RESPONSE => Some(Response::decode(payload).map(|response| Frame::Response(stream, response))),
                _ => None,
            };
            self.bytes.drain(..HEADER + length);
            if self.bytes.is_empty() {
                // an idle connection holds no memory
                self.bytes = Vec::new();
            }
            match frame {
                Some(Ok(frame)) => return Some(frame),
                Some(Err(error)) => {
                    return Some(Frame::Bad(
                        stream,
                        Status { code: 3, message: format!("unmarshal request: {error}") },
                    ));
                }
                None => {}
            }
        }
    }
}

fn frame(kind: u8, stream: u32, message: &impl prost::Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// The bytes of a request.
pub fn request(stream: u32, request: &Request) -> Vec<u8> {
    frame(REQUEST, stream, request)
}

/// The bytes of an answer.
pub fn response(stream: u32, result: Result<Vec<u8>, Status>) -> Vec<u8> {
    let response = match result {
        Ok(payload) => Response { status: None, payload },
        Err(status) => Response { status: Some(status), payload: Vec::new() },
    };
    if response.encoded_len() > LIMIT {
        let message = format!("message length {} exceed maximum message size of {LIMIT}", response.encoded_len());
        return frame(RESPONSE, stream, &Response { status: Some(Status { code: 8, message }), payload: Vec::new() });
    }
    frame(RESPONSE, stream, &response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Request {
        Request { service: "s".into(), method: "m".into(), payload: vec![1, 2], timeout_nano: 5 }
    }

    #[test]
    fn a_request_has_the_bytes_of_the_protocol() {
        let bytes = request(3, &asked());
        assert_eq!(bytes, b"\0\0\0\x0c\0\0\0\x03\x01\0\x0a\x01s\x12\x01m\x1a\x02\x01\x02\x20\x05");
    }

    #[test]
    fn frames_come_out_whole_whatever_pieces_they_came_in() {
        let both = [request(1, &asked()), response(3, Ok(vec![7]))].concat();
        for cut in 0..both.len() {
            let mut inbox = Inbox::default();
            inbox.take(&both[..cut]);
            let mut frames: Vec<_> = std::iter::from_fn(|| inbox.next()).collect();
            inbox.take(&both[cut..]);
            frames.extend(std::iter::from_fn(|| inbox.next()));
            let answer = Response { status: None, payload: vec![7] };
            assert_eq!(frames, [Frame::Request(1, asked()), Frame::Response(3, answer)], "cut at {cut}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_passed_over_and_the_next_one_is_read() {
        let length = LIMIT + 1;
        let mut bytes = u32::try_from(length).unwrap_or_default().to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 9, 1, 0]);
        bytes.resize(10 + length, 0xff);
        bytes.extend(request(11, &asked()));
        let mut inbox = Inbox::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(65536) {
            inbox.take(piece);
            frames.extend(std::iter::from_fn(|| inbox.next()));
        }
        assert!(matches!(&frames[0], Frame::Bad(9, status) if status.code == 8), "{frames:?}");
        assert_eq!(frames[1..], [Frame::Request(11, asked())]);
    }

    #[test]
    fn what_is_no_message_and_what_is_a_stream_is_passed_over() {
        let mut inbox = Inbox::default();
        inbox.take(b"\0\0\0\x01\0\0\0\x05\x01\0\xff");
        inbox.take(b"\0\0\0\x01\0\0\0\x05\x03\0x");
        inbox.take(&request(7, &asked()));
        assert!(matches!(inbox.next(), Some(Frame::Bad(5, status)) if status.code == 3));
        assert_eq!(inbox.next(), Some(Frame::Request(7, asked())));
        assert_eq!(inbox.next(), None);
    }
}
