//! CRIU (criu(8)): its program as a child of ours (`criu swrk`), which is asked by messages over a socket. What is asked is
//! decided by others; here are the messages, the conversation, and the errors that CRIU writes into its log.

mod log;
mod rpc;
mod swrk;
mod version;
mod work;

pub use log::errors;
pub use rpc::{
    CgroupMode, CgroupRoot, ExternalMount, InheritFd, JoinNamespace, NetworkLock, Options, PageServer, Request, What,
};
pub use swrk::{Criu, Notice, Said, Setup, Streams};
pub use version::Need;
