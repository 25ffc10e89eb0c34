//! Plans of generated configs follow the rules, too.

use libcontainer::config::{self, Config};
use libcontainer::plan::Plan;
use libcontainer::plan::step::{CallersGroups, Step, What};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{broken, cases};

/// Any mixture of the golden cases. For every top-level property, and every property of `process` and `linux`, it has
/// the value of some case.
fn mixture() -> impl Strategy<Value = (Value, Value)> {
    let cases = cases::all("plan");
    let documents: Vec<Value> = cases.iter().map(|case| serde_json::from_slice(&case.text).unwrap()).collect();
    let hosts: Vec<Value> = cases.iter().map(|case| case.host.clone()).collect();
    let count = documents.len();
    (proptest::collection::vec(0..count, 40), 0..count).prop_map(move |(picks, host)| {
        let mut picks = picks.into_iter().cycle();
        let mut mixed = json!({});
        let mut names: Vec<String> = Vec::new();
        for section in ["", "/process", "/linux"] {
            let objects = documents.iter().filter_map(|d| d.pointer(section).and_then(Value::as_object));
            names.extend(objects.flat_map(|o| o.keys()).map(|name| format!("{section}/{name}")));
        }
        names.sort();
        names.dedup();
        for name in names.iter().filter(|name| !["/process", "/linux"].contains(&name.as_str())) {
            let from = &documents[picks.next().unwrap()];
            let Some(value) = from.pointer(name) else { continue };
            let mut parts = name.split('/').skip(1);
            match (parts.next().unwrap(), parts.next()) {
                (top, None) => mixed[top] = value.clone(),
                (top, Some(below)) => mixed[top][below] = value.clone(),
            }
        }
        (mixed, hosts[host].clone())
    })
}

/// Replaces a value somewhere in a document.
fn mutate(value: &mut Value, steps: &[usize], with: Value) {
    let below = steps.split_first().and_then(|(step, rest)| {
        let next = match value {
            Value::Object(object) if !object.is_empty() => {
                let n = step % object.len();
                object.values_mut().nth(n)
            }
            Value::Array(list) if !list.is_empty() => {
                let n = step % list.len();
                list.get_mut(n)
            }
            _ => None,
        };
        next.map(|next| (next, rest))
    });
    match below {
        Some((next, rest)) => mutate(next, rest, with),
        None => *value = with,
    }
}

fn strange() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(json!(u32::MAX)),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[]])),
        Just(json!("")),
        Just(json!("a\u{0}b")),
        Just(json!("/../..")),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn planned(config: &Config, host: &Value) -> Option<Plan> {
    if host.get("exec").is_some() && config.spec.process().is_none() {
        return None;
    }
    let plan = cases::plan_of(config, host).ok()?;
    // Without a user namespace, a process that keeps the caller's groups has no step for them: the rule cannot see that they are kept.
    let annotations = config.spec.annotations().as_ref();
    let keeps =
        annotations.is_some_and(|all| all.get("run.oci.keep_original_groups").is_some_and(|asked| asked == "1"));
    let has_step = |step: &Step| matches!(step.what, What::Groups(_) | What::BecomeRoot(CallersGroups::Kept));
    (!keeps || plan.bridge.iter().chain(&plan.init).any(has_step)).then_some(plan)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_of_a_mixture_keeps_the_rules((document, host) in mixture()) {
        let text = serde_json::to_vec(&document).unwrap();
        if let Ok(config) = config::load(&text)
            && let Some(plan) = planned(&config, &host)
        {
            prop_assert_eq!(broken(&plan), Vec::<String>::new(), "{:#}", document);
        }
    }

    /// For any config, `load` and the plan return faults or succeed.
    #[test]
    fn no_config_makes_load_or_plan_fall_over(
        (mut document, host) in mixture(),
        changes in proptest::collection::vec((proptest::collection::vec(0usize..64, 1..8), strange()), 1..6),
    ) {
        for (steps, with) in changes {
            mutate(&mut document, &steps, with);
        }
        let text = serde_json::to_vec(&document).unwrap();
        if let Ok(config) = config::load(&text)
            && let Some(plan) = planned(&config, &host)
        {
            prop_assert_eq!(broken(&plan), Vec::<String>::new(), "{:#}", document);
            let _ = plan.to_string();
        }
    }
}
