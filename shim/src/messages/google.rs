//! google.protobuf and google.rpc.

use std::time::{SystemTime, UNIX_EPOCH};

/// google.protobuf.Any: a message and the name of its type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// The message of that type.
    pub fn of(type_url: &str, message: &impl prost::Message) -> Any {
        Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
    }

    /// Whether its type has this name, with or without a prefix.
    pub fn is(&self, name: &str) -> bool {
        self.type_url.rsplit('/').next() == Some(name)
    }
}

/// google.protobuf.Timestamp
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos().cast_signed() }
    }
}

/// google.protobuf.Empty
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

/// google.rpc.Status
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}
