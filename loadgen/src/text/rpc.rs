//! What is told of services and calls.

use std::fmt::Write as _;

use super::{digits, grouped, shown};
use crate::ledger::CallFindings;
use crate::report::{DiscoveryRow, Latency, RpcConfigRow, RpcRow, Step};

/// Who offers what, for the heading.
pub fn heading(rpc: &RpcConfigRow, size: usize) -> String {
    let RpcConfigRow { providers, services, route, .. } = rpc;
    let repeats = if rpc.idempotent { ", idempotent" } else { "" };
    format!("providers {providers}, services {services}, {route}, arguments of {size} B{repeats}")
}

/// The lines of a run that calls services.
pub fn lines(out: &mut String, row: &RpcRow) {
    let counted = &row.counted;
    let _ = writeln!(
        out,
        "  {:<12}{} failovers, {} of them overlapping; providers remembered {} times, asked for {} times; \
         {} late replies",
        "calls",
        grouped(counted.failovers),
        grouped(counted.overlaps),
        grouped(counted.discovery_hits),
        grouped(counted.discovery_asks),
        grouped(counted.late_replies),
    );
    if counted.routed > 0 {
        let _ = writeln!(
            out,
            "  {:<12}{} attempts through others, {:.2} relays a call",
            "route",
            grouped(counted.routed),
            row.relay_hops_per_call
        );
    }
    if let Some(discovery) = &row.discovery {
        steps(out, discovery);
    }
    audit(out, &row.audit);
}

fn steps(out: &mut String, row: &DiscoveryRow) {
    for (name, step) in [("advertise", &row.advertise), ("call", &row.call)] {
        let Step { ok, failed, ops_per_s, latency_ns, counted } = step;
        let p = |pick: fn(&Latency) -> Option<u64>| shown(latency_ns.as_ref().and_then(pick));
        let _ = write!(
            out,
            "  {name:<12}{ok} ok, {failed} failed, {}/s, p50 {}  p99 {}",
            digits(*ops_per_s),
            p(|latency| latency.p50),
            p(|latency| latency.p99),
        );
        if counted.discovery_hits > 0 {
            let _ = write!(out, ", providers remembered {} times", counted.discovery_hits);
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "  {:<12}{} lost; {} withdrawn, {} of them with too few replicas told; then each was called and searched for \
         again: {} answered or found, {} not known",
        "services", row.lost, row.withdrawn, row.not_withdrawn, row.left, row.unknown
    );
}

fn audit(out: &mut String, findings: &CallFindings) {
    let verdict = if findings.wrong == 0 { "all true" } else { "UNTRUE" };
    let _ = writeln!(
        out,
        "  {:<12}{verdict}: {} calls acknowledged, {} failed ({} may have run); {} executions, {} calls \
         repeated, {} contradicted",
        "audit",
        findings.acknowledged,
        findings.failed,
        findings.maybe_executed,
        findings.executions,
        findings.repeated,
        findings.wrong
    );
    for it in &findings.contradictions {
        let _ = writeln!(
            out,
            "    call {}: {} executions, its caller was told {}",
            it.call, it.executions, it.told
        );
    }
}
