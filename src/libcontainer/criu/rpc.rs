//! CRIU's messages, as far as they are used. Names and numbers are those of `images/rpc.proto` in CRIU's source.
//! `hack/criu --rpc` compares them.

use prost::Message;

/// The type of a request, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum CriuReqType {
    /// The answer to an unknown request.
    Empty = 0,
    /// Write the images, and end the processes.
    Dump = 1,
    /// Restore the processes.
    Restore = 2,
    /// Write only the memory.
    PreDump = 4,
    /// CRIU has reached a point, and waits.
    Notify = 6,
    /// The features of CRIU and the kernel.
    FeatureCheck = 9,
    /// The version of CRIU.
    Version = 10,
}

/// How CRIU treats cgroups.
///
/// ```
/// use libcontainer::{CgroupMode, Images};
///
/// assert_eq!(CgroupMode::named("soft"), Some(CgroupMode::Soft));
/// let images = Images::new("/images/box").cgroups(CgroupMode::Soft);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum CgroupMode {
    /// Processes stay in the cgroup that CRIU is in.
    Ignore = 0,
    /// Limits are written only into cgroups that CRIU makes.
    Soft = 3,
    /// All limits are written.
    Full = 4,
    /// An existing cgroup is an error.
    Strict = 5,
    /// CRIU's default.
    Default = 6,
}

impl CgroupMode {
    /// The mode with this name in `criu restore --manage-cgroups` (criu(8)). None for a name that CRIU does not know.
    pub fn named(name: &str) -> Option<CgroupMode> {
        Some(match name {
            "ignore" => CgroupMode::Ignore,
            "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            _ => return None,
        })
    }
}

/// How CRIU holds back the packets of open connections.
///
/// ```
/// use libcontainer::{Images, NetworkLock};
///
/// let images = Images::new("/images/box").network_lock(NetworkLock::Nftables);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum NetworkLock {
    /// iptables-restore(8).
    Iptables = 1,
    /// libnftables.
    Nftables = 2,
    /// Packets are not held back.
    Skip = 3,
}

/// The page server.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PageServer {
    /// An address, or a name.
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    /// A port of TCP.
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// A mount that CRIU does not make itself. At a dump: its place, and its name. At a restore: its name, and the file to
/// bind.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExternalMount {
    /// The place, or the name.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// The name, or the path.
    #[prost(string, required, tag = "2")]
    pub val: String,
}

/// An existing namespace.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JoinNamespace {
    /// Its kind.
    #[prost(string, required, tag = "1")]
    pub ns: String,
    /// Its file.
    #[prost(string, required, tag = "2")]
    pub ns_file: String,
}

/// A descriptor of CRIU that replaces one in the images.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InheritFd {
    /// Its name in the images.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Its number in CRIU.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// The cgroup that replaces that of the images.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CgroupRoot {
    /// The controllers, as in /proc/PID/cgroup.
    #[prost(string, optional, tag = "1")]
    pub ctrl: Option<String>,
    /// Its path in the hierarchy.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// The options of a dump or a restore.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Options {
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub ps: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<ExternalMount>,
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub join_ns: Vec<JoinNamespace>,
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    #[prost(int32, optional, tag = "49")]
    pub status_fd: Option<i32>,
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    #[prost(bool, optional, tag = "52")]
    pub tcp_close: Option<bool>,
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
    #[prost(enumeration = "NetworkLock", optional, tag = "64")]
    pub network_lock: Option<i32>,
    /// Mounts are restored in the way of releases before 3.17.
    #[prost(bool, optional, tag = "65")]
    pub mntns_compat_mode: Option<bool>,
}

/// The features of CRIU and the kernel.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CriuFeatures {
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// A message to CRIU.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CriuReq {
    #[prost(enumeration = "CriuReqType", required, tag = "1")]
    pub r#type: i32,
    #[prost(message, optional, tag = "2")]
    pub opts: Option<Options>,
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub keep_open: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub features: Option<CriuFeatures>,
}

/// The processes exist.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RestoreAnswer {
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
}

/// The point that CRIU has reached.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CriuNotify {
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

/// The version of CRIU.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VersionAnswer {
    #[prost(int32, required, tag = "1")]
    pub major_number: i32,
    #[prost(int32, required, tag = "2")]
    pub minor_number: i32,
    #[prost(string, optional, tag = "3")]
    pub gitid: Option<String>,
    #[prost(int32, optional, tag = "4")]
    pub sublevel: Option<i32>,
}

/// A message of CRIU.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CriuResp {
    #[prost(enumeration = "CriuReqType", required, tag = "1")]
    pub r#type: i32,
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    #[prost(message, optional, tag = "4")]
    pub restore: Option<RestoreAnswer>,
    #[prost(message, optional, tag = "5")]
    pub notify: Option<CriuNotify>,
    #[prost(int32, optional, tag = "7")]
    pub cr_errno: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub features: Option<CriuFeatures>,
    #[prost(string, optional, tag = "9")]
    pub cr_errmsg: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub version: Option<VersionAnswer>,
}
