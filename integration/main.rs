//! Tests with real containers: `cargo test --test integration`, as root or as an ordinary user (`hack/rootless`).
//! `RUNTIME=/usr/bin/crun cargo test --test integration` runs the same tests on another runtime. There is one file for
//! each subject, and `world` has what all of them need.
#![allow(clippy::unwrap_used, missing_docs)] // a failed unwrap fails the test

mod agent;
mod annotations;
mod cgroup_mounts;
mod cgroups;
mod checkpoint;
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
mod landlock;
mod life;
mod load;
mod mount_flags;
mod mount_sources;
mod mountinfo;
mod mounts;
mod namespaces;
mod nested;
mod net_devices;
mod notify;
mod notify_agent;
mod old_kernels;
mod ordinary;
mod paths;
mod process;
mod programs;
mod readme;
mod relay;
mod rootless;
mod roots;
mod run_as;
mod seccomp;
mod security;
mod systemd;
mod terminal;
mod update;
mod update_table;
mod user_namespaces;
mod waits;
mod world;
