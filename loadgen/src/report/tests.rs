//! Reports keep to the published schema.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::demo::{Arm, Demo, Total};
use crate::drive::{Part, drive};
use crate::ledger::Ledger;
use crate::plan::tests::plan;
use crate::plan::{Route, RpcPlan};
use crate::stop::Stop;
use crate::target::CallCounters;
use crate::target::fake::Fake;
use crate::workload::Data;

const SCHEMA: &str = include_str!("../../schema.json");

/// A report of a short run against a target in memory.
pub async fn sample(plan: &Plan) -> Report {
    let (_, target) = Fake::failing(50).target();
    let data = Arc::new(Data::new(plan, |_| true));
    let (_sender, mut stop) = Stop::manual();
    let part = Part { first: 0, duration: plan.duration, ops: plan.ops, title: "test" };
    let mut phase = drive(&target, &data, plan, part, &mut stop).await.expect("a phase");
    let sample = std::mem::take(&mut phase.tally.sample);
    let (seen, claims) = (sample.seen(), Arc::new(sample.into_claims()));
    let findings = crate::audit::audit(&target, &data, seen, &claims).await;
    let after = (plan.kill > 0.0).then(|| (1, findings.clone()));
    Report::new(plan, &phase, Some(Audited { findings, after }), &Host::read(), SystemTime::now())
}

/// Where `value` breaks `schema`: the part of JSON Schema that ours uses.
fn violations(root: &Value, schema: &Value, value: &Value, path: &str, out: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = root.pointer(name.trim_start_matches('#'));
        return violations(root, definition.expect("a known definition"), value, path, out);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    if !types.is_empty() && !types.iter().any(|name| has_type(value, name)) {
        out.push(format!("{path}: not {types:?}"));
    }
    let allowed = schema["const"].is_null() || schema["const"] == *value;
    let listed = schema["enum"].as_array().is_none_or(|list| list.contains(value));
    let least = schema["minimum"].as_f64().zip(value.as_f64()).is_none_or(|(least, value)| value >= least);
    if !(allowed && listed && least) {
        out.push(format!("{path}: {value} is not allowed"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            out.push(format!("{path}: no {name}"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => violations(root, schema, field, &path, out),
            (None, Value::Bool(false)) => out.push(format!("{path}: unknown")),
            (None, schema @ Value::Object(_)) => violations(root, schema, field, &path, out),
            _ => {}
        }
    }
    if let (Some(items), schema @ Value::Object(_)) = (value.as_array(), &schema["items"]) {
        for (i, item) in items.iter().enumerate() {
            violations(root, schema, item, &format!("{path}[{i}]"), out);
        }
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the schema uses an unknown type {other}"),
    }
}

fn check(kind: &str, value: &Value) -> Vec<String> {
    let root: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut out = Vec::new();
    violations(&root, &root["$defs"][kind], value, kind, &mut out);
    out
}

#[tokio::test]
async fn reports_keep_to_the_schema() {
    let mut open = plan();
    (open.rate, open.ops, open.duration) = (Some(2000.0), None, Some(Duration::from_millis(600)));
    let mut faulty = plan();
    (faulty.churn, faulty.kill) = (0.1, 0.1);
    for plan in [plan(), open, faulty] {
        let report = sample(&plan).await;
        let value = serde_json::to_value(&report).expect("JSON");
        assert_eq!(check("report", &value), Vec::<String>::new());
        let lead = &value["latency_ns"]["store"]["ok"][plan.lead()];
        assert_eq!(lead["count"], value["totals"]["ok"]);
        assert!(lead["p50"].is_u64() && value["throughput"]["ops_per_s"].is_f64());
        assert!(value["transport"]["handshakes"].is_u64() && value["validity"]["ok"].is_boolean());
        let rows = value["intervals"].as_array().expect("intervals");
        let ok: u64 = rows.iter().filter_map(|row| row["ok"].as_u64()).sum();
        assert_eq!(Some(ok), value["totals"]["ok"].as_u64());

        let arms = vec![Arm { name: "pooled", report }];
        let demo =
            Demo { schema_version: 1, kind: "loadgen.demo", complete: true, arms, audit: Total::default() };
        assert_eq!(check("demo", &serde_json::to_value(&demo).expect("JSON")), Vec::<String>::new());
    }
}

/// What a run of services found, one of which is still known.
pub fn services() -> RpcRow {
    let ledger = Ledger::default();
    (0..3).for_each(|call| ledger.acknowledged(call));
    (1..3).for_each(|call| ledger.executed(call));
    ledger.failed(3, false);
    let mut hist = hist::empty();
    hist.saturating_record_n(1_000_000, 99);
    let counted =
        CallCounters { failovers: 7, overlaps: 5, routed: 3, relay_hops: 9, ..CallCounters::default() };
    let latency_ns = Some(Latency::of(&hist));
    let step = Step { ok: 99, failed: 1, ops_per_s: 1234.5, latency_ns, counted };
    let call = Step { latency_ns: None, ..step.clone() };
    let discovery = DiscoveryRow {
        services: 100,
        advertise: step,
        call,
        lost: 0,
        withdrawn: 100,
        not_withdrawn: 2,
        left: 1,
        unknown: 0,
    };
    RpcRow::new(counted, ledger.audit(false), Some(discovery))
}

#[tokio::test]
async fn what_is_said_of_services_keeps_to_the_schema_and_is_judged() {
    let mut plan = plan();
    let (handler_delay, idempotent) = (Duration::from_millis(3), false);
    plan.rpc = Some(RpcPlan { providers: 2, services: 1, route: Route::MultiHop, handler_delay, idempotent });
    let mut report = sample(&plan).await;
    let broken = |report: &Report| report.validity.complaints().join("; ").contains("rpc_broken is 2");
    assert!(!broken(&report) && report.broken() == 0);
    report.add_rpc(services());
    assert!(broken(&report) && !report.validity.ok && report.broken() == 2);
    let value = serde_json::to_value(&report).expect("JSON");
    assert_eq!(check("report", &value), Vec::<String>::new());
    assert_eq!(
        (&value["rpc"]["relay_hops_per_call"], &value["rpc"]["audit"]["wrong"]),
        (&3.0.into(), &1.into())
    );
}

#[tokio::test]
async fn a_report_that_breaks_the_schema_is_seen() {
    let good = serde_json::to_value(sample(&plan()).await).expect("JSON");
    let breaks: [fn(&mut Value); 4] = [
        |report| report["totals"]["errors"]["gremlins"] = 1.into(),
        |report| report["latency_ns"]["store"]["ok"]["service"]["p50"] = "fast".into(),
        |report| report["schema_version"] = 2.into(),
        |report| drop(report["host"].as_object_mut().expect("an object").remove("cores")),
    ];
    for (case, spoil) in breaks.into_iter().enumerate() {
        let mut report = good.clone();
        spoil(&mut report);
        assert_eq!(check("report", &report).len(), 1, "case {case}");
    }
}

#[test]
fn few_samples_have_no_percentiles() {
    let mut hist = hist::empty();
    hist.saturating_record_n(1_000_000, 99);
    let latency = Latency::of(&hist);
    assert!(latency.p50.is_some() && latency.p95.is_some());
    assert_eq!((latency.p99, latency.p99_9, latency.p99_99), (None, None, None));
}
