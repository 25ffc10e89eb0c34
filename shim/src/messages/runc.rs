//! containerd.runc.v1, and runtimeoptions.v1, in which containerd passes on options that it does not know.

/// containerd.runc.v1.Options. As JSON it has the names that the runc shim writes into options.json.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Options {
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub no_new_keyring: bool,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub io_uid: u32,
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub io_gid: u32,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub binary_name: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub root: String,
    #[prost(bool, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "is_default")]
    pub criu_image_path: String,
    #[prost(string, tag = "11")]
    #[serde(skip_serializing_if = "is_default")]
    pub criu_work_path: String,
}

/// containerd.runc.v1.CheckpointOptions
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckpointOptions {
    #[prost(bool, tag = "1")]
    pub exit: bool,
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    #[prost(string, tag = "8")]
    pub image_path: String,
    #[prost(string, tag = "9")]
    pub work_path: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// containerd.linux.runc.CreateOptions: containerd 1.x clients convert their own options to this for an unknown
/// runtime.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateOptions {
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "8")]
    pub no_new_keyring: bool,
    #[prost(string, tag = "9")]
    pub shim_cgroup: String,
    #[prost(uint32, tag = "10")]
    pub io_uid: u32,
    #[prost(uint32, tag = "11")]
    pub io_gid: u32,
}

impl From<CreateOptions> for Options {
    fn from(old: CreateOptions) -> Options {
        let CreateOptions { no_pivot_root, no_new_keyring, shim_cgroup, io_uid, io_gid } = old;
        Options { no_pivot_root, no_new_keyring, shim_cgroup, io_uid, io_gid, ..Options::default() }
    }
}

/// containerd.runc.v1.ProcessDetails
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessDetails {
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

/// runtimeoptions.v1.Options
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeOptions {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(string, tag = "2")]
    pub config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}
