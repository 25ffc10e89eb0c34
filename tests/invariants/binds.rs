//! A bound directory belongs to the host: a plan makes no node and no link in it, but mount points
//! and `process.cwd`.

use std::ffi::CString;

use libcontainer::config::At;
use libcontainer::plan::Plan;
use libcontainer::plan::step::{DeviceNode, Other, Step, What};

use super::frame::{Rule, insert, steps};

pub const RULES: [Rule; 1] = [Rule {
    name: "nothing is made below a bind",
    holds: nothing_below_a_bind,
    broken_by: &[
        ("a node", |plan| {
            below_the_last_bind(plan, |path| {
                What::Mknod(DeviceNode { path, mode: 0o20666, device: 259, uid: 0, gid: 0, other: Other::Refuse })
            })
        }),
        ("a link", |plan| below_the_last_bind(plan, |path| What::Symlink { to: c"/proc/self/fd".to_owned(), path })),
        ("a link that replaces", |plan| {
            below_the_last_bind(plan, |path| What::Replace { to: c"pts/ptmx".to_owned(), path })
        }),
    ],
}];

fn nothing_below_a_bind(plan: &Plan) -> Result<(), String> {
    let all: Vec<_> = steps(plan).collect();
    for (n, step) in all.iter().enumerate() {
        let made = match &step.what {
            What::Mknod(node) => &node.path,
            What::Symlink { path, .. } | What::Replace { path, .. } => path,
            _ => continue,
        };
        let above = |what: &What| {
            let rest = what.target().and_then(|target| made.to_bytes().strip_prefix(target.path.to_bytes()));
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let last = all[..n].iter().rev().find(|step| above(&step.what));
        if let Some(bind) = last.filter(|step| !matches!(step.what, What::NewMount(_))) {
            return Err(format!("{step} below {bind}"));
        }
    }
    Ok(())
}

fn below_the_last_bind(plan: &mut Plan, make: fn(CString) -> What) -> bool {
    let all: Vec<_> = steps(plan).collect();
    let bound = all.iter().enumerate().rev().find_map(|(n, step)| match &step.what {
        What::Bind(_, _, target) | What::BindOrLink(_, _, target) => Some((n, target.path.to_bytes())),
        _ => None,
    });
    let Some((n, target)) = bound else { return false };
    let path = CString::new([target, b"/made"].concat()).unwrap();
    insert(plan, n + 1, Step::new(&At::new("mutation"), make(path)));
    true
}
