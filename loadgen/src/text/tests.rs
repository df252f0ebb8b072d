//! What people read.

use super::*;
use crate::demo::{Arm, Total};
use crate::plan::tests::plan;
use crate::report::AfterKill;
use crate::report::tests::{sample, services};
use crate::target::Churned;

#[test]
fn numbers_have_three_digits_and_a_unit() {
    for (ns, text) in [(999, "999 ns"), (1500, "1.50 us"), (12_345_678, "12.3 ms"), (412_000_000, "412 ms")] {
        assert_eq!(nanos(ns), text);
    }
    for (value, text) in [(2.439, "2.44"), (99.96, "100"), (9.999, "10.0"), (1_234_567.8, "1,234,568")] {
        assert_eq!(digits(value), text);
    }
}

async fn arm(name: &'static str, ops: u64) -> Arm {
    let mut plan = plan();
    plan.ops = Some(ops);
    Arm { name, report: sample(&plan).await }
}

#[tokio::test]
async fn the_table_hides_what_it_cannot_know() {
    let arms = vec![arm("legacy", 6).await, arm("fresh", 500).await, arm("pooled", 2000).await];
    let demo =
        Demo { schema_version: 1, kind: "loadgen.demo", complete: true, arms, audit: Total::default() };
    let text = super::demo(&demo);
    let dashes = |name: &str| {
        let row = text.lines().find(|line| line.trim_start().starts_with(name)).expect("a row");
        row.split_whitespace().filter(|word| *word == "-").count()
    };
    assert_eq!((dashes("legacy"), dashes("fresh"), dashes("pooled")), (2, 1, 0), "{text}");
    assert!(text.contains("the fire-and-forget baseline (legacy)"), "{text}");
    assert!(text.contains("10 of 500 failed: 10 backpressure (queue full)"), "{text}");
    assert!(!text.contains("PARTIAL"));
}

#[tokio::test]
async fn a_summary_says_what_it_is() {
    let mut report = arm("x", 2000).await.report;
    let text = run(&report);
    assert!(text.contains("not comparable with an open loop"), "{text}");
    assert!(
        text.contains("1536 acknowledged records, 4608 replicas asked, 1536 searches, 0 missing"),
        "{text}"
    );
    assert!(!text.contains("killed") && !text.contains("went silent"), "{text}");
    report.dht = Some(DhtRow {
        lookups: 4100,
        lookups_per_op: 2.05,
        queries_per_lookup: Some(5.5),
        hops_mean: Some(2.25),
        acked_mean: Some(7.96),
        acked_least: Some(5),
        churn: Some(Churned { due: 6, replaced: 5 }),
    });
    let findings = Findings { gone: 12, stale: 3, orphans: 2, orphans_lost: 1, ..Findings::default() };
    report.after_kill = Some(AfterKill { killed: 1, audit: findings });
    let text = run(&report);
    for line in [
        "4,100 lookups, 2.05 an operation: 5.50 queries and 2.25 hops each; 7.96 replicas acknowledged, at least 5",
        "5 of 6 nodes due were replaced",
        "1 of 5 nodes went silent",
        "12 acknowledging replicas were killed; of 2 records all were, 1 of which are lost",
        "3 searches found an older record: no quorum need have met the newest",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("calls acknowledged"), "{text}");
    report.add_rpc(services());
    let text = run(&report);
    for line in [
        "7 failovers, 5 of them overlapping",
        "3 attempts through others, 3.00 relays a call",
        "advertise   99 ok, 1 failed, 1,235/s, p50 1.00 ms  p99 -",
        "100 withdrawn, 2 of them with too few replicas told; then each was called and searched for again: 1 answered or found",
        "UNTRUE: 3 calls acknowledged, 1 failed (0 may have run); 2 executions, 0 calls repeated, 1 contradicted",
        "call 0: 0 executions, its caller was told acknowledged",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    report.complete = false;
    assert!(run(&report).contains("PARTIAL"));
}
