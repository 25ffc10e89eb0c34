//! Any bytes as config.json: load and plan may only say what is wrong with them.
#![no_main]

use libcontainer::host::Host;
use libcontainer::plan::{self, Asked, CgroupUse, Flags, Keyring, RootChange, Start, Terminal};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = libcontainer::config::load(bytes) else { return };
    let flags = Flags {
        id: "box".to_owned(),
        bundle: "/bundle".into(),
        terminal: Terminal::Sent,
        start: Start::OnFifo,
        root_change: RootChange::Pivot,
        keyring: Keyring::New,
        extra_fds: 0,
        listen_fds: 0,
        notify: None,
        cgroup: CgroupUse::Own,
    };
    if let Ok(plan) = plan::create(&Asked { config: &config, host: &Host::default(), flags: &flags }) {
        let _ = plan.to_string();
    }
});
