//! The owner of streams: the logger gets its names, and the pipes get its ids.

/// The owner of the streams.
#[derive(Clone, Debug)]
pub struct Owner {
    pub namespace: String,
    /// The id of the container or of the exec.
    pub id: String,
    pub uid: u32,
    pub gid: u32,
}
