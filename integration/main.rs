//! Real containers: `cargo test --test integration`, as root or as an ordinary user (`hack/rootless`), or `RUNTIME=/usr/bin/crun cargo test --test integration` to
//! prove a test on a peer. One file for each subject; `world` is what they stand on.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on falls over

mod agent;
mod cgroup_mounts;
mod cgroups;
mod churn;
mod cli;
mod conformance;
mod damaged;
mod delegation;
mod devices;
mod edge_values;
mod events;
mod exec;
mod failures;
mod freeze;
mod growth;
mod hooks;
mod idmapped_mounts;
mod intel_rdt;
mod interrupted;
mod labels;
mod life;
mod load;
mod mount_flags;
mod mountinfo;
mod mounts;
mod namespaces;
mod nested;
mod net_devices;
mod notify;
mod notify_agent;
mod ordinary;
mod paths;
mod process;
mod relay;
mod rootless;
mod roots;
mod run_as;
mod seccomp;
mod security;
mod systemd;
mod terminal;
mod update;
mod user_namespaces;
mod world;
