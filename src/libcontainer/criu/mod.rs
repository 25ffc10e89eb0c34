//! CRIU (criu(8)). Its program is our child (`criu swrk`), and gets messages over a socket. This module has the messages,
//! the protocol, the contents of images, and the errors in CRIU's log. Others decide what is requested.

mod guardian;
mod image_file;
mod images;
mod log;
mod open_files;
mod rpc;
mod swrk;
mod version;
mod work;

pub use guardian::Thaw;
pub use image_file::ImageFault;
pub use images::{ImageContents, contents, label, memory_faults};
pub use log::errors;
pub use open_files::files_of_the_host;
pub use rpc::{
    CgroupMode, CgroupRoot, CriuReq, CriuReqType, ExternalMount, InheritFd, JoinNamespace, NetworkLock, Options,
    PageServer,
};
pub use swrk::{Criu, CriuMessage, CriuStreams, Notice, Setup};
pub use version::{CriuFeature, CriuVersion};
