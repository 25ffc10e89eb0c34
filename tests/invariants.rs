//! The order of a plan is a security property. Each rule is a function with a name and a reason. Every golden plan and the
//! plans of generated configs must follow it, and each of its mutations must break it. A new rule goes into the
//! file of its subject, or into a new file with a line here.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

#[path = "invariants/binds.rs"]
mod binds;
mod cases;
#[path = "invariants/filter.rs"]
mod filter;
#[path = "invariants/frame.rs"]
mod frame;
#[path = "invariants/generated.rs"]
mod generated;
#[path = "invariants/ignored.rs"]
mod ignored;
#[path = "invariants/inside.rs"]
mod inside;
#[path = "invariants/landlock.rs"]
mod landlock;
#[path = "invariants/order.rs"]
mod order;
#[path = "invariants/rights.rs"]
mod rights;
#[path = "invariants/slots.rs"]
mod slots;

use std::collections::BTreeSet;

use frame::Rule;
use libcontainer::plan::Plan;

/// Every rule, by subject.
fn rules() -> impl Iterator<Item = &'static Rule> {
    order::RULES
        .iter()
        .chain(&inside::RULES)
        .chain(&rights::RULES)
        .chain(&filter::RULES)
        .chain(&slots::RULES)
        .chain(&binds::RULES)
        .chain(&landlock::RULES)
}

fn broken(plan: &Plan) -> Vec<String> {
    rules().filter_map(|rule| (rule.holds)(plan).err().map(|what| format!("{}: {what}", rule.name))).collect()
}

fn golden_plans() -> Vec<(String, Plan)> {
    cases::all("plan").into_iter().map(|case| (case.name(), case.plan().unwrap().1)).collect()
}

#[test]
fn every_golden_plan_keeps_the_rules() {
    let all: Vec<_> = golden_plans()
        .iter()
        .flat_map(|(name, plan)| broken(plan).into_iter().map(move |what| format!("{name}: {what}")))
        .collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// A rule that no mutation breaks proves nothing.
#[test]
fn every_mutation_breaks_its_rule() {
    let plans = golden_plans();
    let mut unseen = Vec::new();
    for rule in rules() {
        assert!(!rule.broken_by.is_empty(), "{}: no mutation breaks it", rule.name);
        for (mutation, mutate) in rule.broken_by {
            let mut applied = 0;
            for (name, plan) in &plans {
                let mut plan = plan.clone();
                if mutate(&mut plan) {
                    applied += 1;
                    if (rule.holds)(&plan).is_ok() {
                        unseen.push(format!("{}: {mutation}: not seen in {name}", rule.name));
                    }
                }
            }
            if applied == 0 {
                unseen.push(format!("{}: {mutation}: no golden plan has what it changes", rule.name));
            }
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

/// A step that is in no golden plan is not checked by any rule.
#[test]
fn every_name_of_a_step_is_in_a_golden_plan() {
    let plans = golden_plans();
    let steps = plans.iter().flat_map(|(_, plan)| plan.bridge.iter().chain(&plan.init));
    let seen: BTreeSet<_> = steps.map(|step| step.what.name()).collect();
    let source = include_str!("../src/libcontainer/plan/needs.rs");
    let names = source.split("fn needs(&self)").nth(1).unwrap().split("pub fn").next().unwrap();
    let unseen: Vec<_> = names.split('"').skip(1).step_by(2).filter(|name| !seen.contains(name)).collect();
    assert!(unseen.is_empty(), "in no golden plan: {unseen:?}");
}
