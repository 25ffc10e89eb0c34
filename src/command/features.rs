//! `features`: prints what this runtime can do. SPEC: features.md.

use anyhow::Result;
use serde::Serialize;

use super::session::print;

pub fn run() -> Result<()> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    libcontainer::features().serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    text.push(b'\n');
    print(&String::from_utf8(text)?)
}
