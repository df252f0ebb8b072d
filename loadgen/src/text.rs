//! Reports for people: the table of the demo and the summary of a run.

use std::fmt::Write as _;

use crate::audit::Findings;
use crate::demo::Demo;
use crate::report::{DhtRow, Latency, Report};

mod rpc;

/// Nanoseconds with three digits and a unit.
pub fn nanos(ns: u64) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Three significant digits, and thousands grouped.
pub fn digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => grouped(value.round() as u64),
    }
}

fn grouped(mut value: u64) -> String {
    let mut groups = Vec::new();
    while value >= 1000 {
        groups.push(format!("{:03}", value % 1000));
        value /= 1000;
    }
    groups.push(value.to_string());
    groups.reverse();
    groups.join(",")
}

fn shown(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), nanos)
}

/// The first line of any output.
pub fn heading(report: &Report) -> String {
    let (host, config) = (&report.host, &report.config);
    let data = match &config.rpc {
        Some(rpc) => rpc::heading(rpc, config.size.fixed),
        None => format!("values of {} B, ack {}", config.size.fixed, config.ack),
    };
    format!(
        "foveola loadgen {}  seed {}  {} cores, {} GiB, {} {}\n{} nodes in this process, k = {}, {data}, verified \
         TLS, {} build\n",
        report.tool.version,
        report.run.seed,
        host.cores,
        host.mem_bytes >> 30,
        host.os,
        host.kernel,
        config.nodes,
        config.k,
        report.tool.profile,
    )
}

/// The table of the demo, both ratios and the verdict.
pub fn demo(demo: &Demo) -> String {
    let mut out = String::new();
    let Some(first) = demo.arms.first() else { return out };
    let _ = writeln!(out, "{}", heading(&first.report));
    let _ = writeln!(
        out,
        "  {:<32}{:>10}{:>10}{:>10}{:>10}{:>11}{:>15}{:>11}",
        "DHT STORE", "ops/s", "p50", "p99", "p99.9", "in flight", "handshakes/op", "CPU us/op"
    );
    for arm in &demo.arms {
        let _ = writeln!(out, "{}", row(&format!("{:<12}{}", arm.name, arm.about()), &arm.report));
    }
    out.push_str("  closed loops: service time; pooled-open: response time, from the scheduled start\n\n");
    for arm in &demo.arms {
        if let Some(line) = steady(arm.name, &arm.report) {
            let _ = writeln!(out, "  {line}");
        }
        if let Some(line) = errors(&arm.report) {
            let _ = writeln!(out, "  {}: {line}", arm.name);
        }
    }
    if let Some(line) = ratios(demo) {
        let _ = writeln!(out, "\n  {line}");
    }
    let total = &demo.audit;
    let _ = writeln!(out, "\n  audit: {}", findings(total.sampled, total.asked, total.reads, total.missing));
    for arm in &demo.arms {
        losses(&mut out, arm.report.audit.as_ref());
    }
    for arm in &demo.arms {
        for complaint in arm.report.validity.complaints() {
            let _ = writeln!(out, "  {}: {complaint}", arm.name);
        }
    }
    let ok = demo.arms.iter().all(|arm| arm.report.validity.ok);
    let _ = writeln!(out, "  measurement: {}  ({})", verdict(ok), notes(&first.report));
    if !demo.complete {
        out.push_str("  PARTIAL: stopped by a signal\n");
    }
    out
}

/// One line of the table.
fn row(title: &str, report: &Report) -> String {
    let lead = report.lead();
    let p = |pick: fn(&Latency) -> Option<u64>| shown(lead.and_then(pick));
    format!(
        "  {title:<32}{:>10}{:>10}{:>10}{:>10}{:>11}{:>15}{:>11}",
        digits(report.throughput.ops_per_s),
        p(|latency| latency.p50),
        p(|latency| latency.p99),
        p(|latency| latency.p99_9),
        in_flight(report),
        format!("{:.2}", report.transport.handshakes_per_op),
        digits(report.resources.cpu_us_per_op),
    )
}

/// The number held by a closed loop; in an open loop the mean, which is rate times service time.
fn in_flight(report: &Report) -> String {
    let service = report.ok().and_then(|ok| ok.service.as_ref());
    match (report.config.rate, service) {
        (Some(_), Some(service)) => {
            format!("~{}", digits(report.throughput.ops_per_s * service.mean as f64 / 1e9))
        }
        (Some(_), None) => "-".to_owned(),
        (None, _) => report.config.concurrency.to_string(),
    }
}

fn steady(name: &str, report: &Report) -> Option<String> {
    let rate = report.config.rate?;
    let ok = report.ok()?;
    let (response, wait) = (ok.response.as_ref()?, ok.wait.as_ref()?);
    Some(format!(
        "{name}, steady at {}/s: response p50 {}  p99 {}  p99.9 {}  waiting p99 {}  target met {:.1} %",
        digits(rate),
        shown(response.p50),
        shown(response.p99),
        shown(response.p99_9),
        shown(wait.p99),
        100.0 * report.throughput.target_ratio.unwrap_or(0.0),
    ))
}

fn errors(report: &Report) -> Option<String> {
    let kinds: Vec<_> = report.totals.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    (!kinds.is_empty()).then(|| {
        let sample = report.error_samples.first().map(|sample| format!(" ({})", sample.message));
        format!(
            "{} of {} failed: {}{}",
            report.errors(),
            report.totals.started,
            kinds.join(", "),
            sample.unwrap_or_default()
        )
    })
}

fn ratios(demo: &Demo) -> Option<String> {
    let of = |name| demo.arms.iter().find(|arm| arm.name == name).map(|arm| &arm.report.throughput);
    let (pooled, fresh, legacy) = (of("pooled")?, of("fresh")?, of("legacy")?);
    let interval = pooled.ratio_interval(fresh);
    let interval = interval.map(|(low, high)| format!(" (95 % CI {}-{})", digits(low), digits(high)));
    Some(format!(
        "pooled is {} x the fire-and-forget baseline (legacy), and {} x{} the same without its 100 ms wait (fresh).",
        digits(pooled.ops_per_s / legacy.ops_per_s),
        digits(pooled.ops_per_s / fresh.ops_per_s),
        interval.unwrap_or_default(),
    ))
}

fn findings(sampled: u64, asked: u64, reads: u64, missing: u64) -> String {
    let verdict = if missing == 0 { "all there" } else { "MISSING" };
    format!(
        "{verdict}: {sampled} acknowledged records, {asked} replicas asked, {reads} searches, {missing} missing"
    )
}

/// One audit of a run, with what it says of nodes that were killed.
fn audit(out: &mut String, title: &str, audit: &Findings) {
    let line = findings(audit.sampled, audit.asked, audit.reads, audit.missing);
    let _ = writeln!(out, "  {title:<12}{line}");
    if audit.gone > 0 {
        let _ = writeln!(
            out,
            "  {:<12}{} acknowledging replicas were killed; of {} records all were, {} of which are lost",
            "", audit.gone, audit.orphans, audit.orphans_lost
        );
    }
    if audit.stale > 0 {
        let _ = writeln!(
            out,
            "  {:<12}{} searches found an older record: no quorum need have met the newest",
            "", audit.stale
        );
    }
    losses(out, Some(audit));
}

fn losses(out: &mut String, audit: Option<&Findings>) {
    for loss in audit.iter().flat_map(|audit| &audit.losses) {
        let _ = writeln!(
            out,
            "    {} seq {} at {} {}: {}",
            loss.key, loss.seq, loss.role, loss.node, loss.reason
        );
    }
}

fn dht(out: &mut String, row: &DhtRow) {
    let per_op = digits(row.lookups_per_op);
    let _ = write!(out, "  {:<12}{} lookups, {per_op} an operation", "dht", grouped(row.lookups));
    if let (Some(queries), Some(hops)) = (row.queries_per_lookup, row.hops_mean) {
        let _ = write!(out, ": {queries:.2} queries and {hops:.2} hops each");
    }
    if let (Some(mean), Some(least)) = (row.acked_mean, row.acked_least) {
        let _ = write!(out, "; {mean:.2} replicas acknowledged, at least {least}");
    }
    out.push('\n');
    if let Some(churn) = row.churn {
        let _ = writeln!(out, "  {:<12}{} of {} nodes due were replaced", "churn", churn.replaced, churn.due);
    }
}

const fn verdict(ok: bool) -> &'static str {
    if ok { "ok" } else { "INVALID: do not quote these numbers" }
}

fn notes(report: &Report) -> String {
    report.validity.notes.join("; ")
}

/// The summary of one run.
pub fn run(report: &Report) -> String {
    let mut out = String::new();
    let (config, totals) = (&report.config, &report.totals);
    let _ = writeln!(out, "{}", heading(report));
    let model = match config.rate {
        Some(rate) => format!("open loop at {}/s", digits(rate)),
        None => format!("closed loop, {} in flight", config.concurrency),
    };
    let _ = writeln!(
        out,
        "  {} over {}: {model}, {:.2} s",
        config.workload, config.transport, report.run.duration_s
    );
    let throughput = &report.throughput;
    let error = throughput.std_err.map(|error| format!(" +/- {}", digits(error))).unwrap_or_default();
    let _ = writeln!(out, "  {:<12}{} op/s{error}", "throughput", digits(throughput.ops_per_s));
    if config.batch > 1 {
        let _ = writeln!(out, "  {:<12}{} records/s", "", digits(throughput.records_per_s));
    }
    let _ = writeln!(
        out,
        "  {:<12}{} intended, {} started, {} ok, {} failed, {} dropped",
        "operations",
        totals.intended,
        totals.started,
        totals.ok,
        report.errors(),
        totals.dropped
    );
    if let Some(line) = errors(report) {
        let _ = writeln!(out, "  {:<12}{line}", "");
    }
    latency_table(&mut out, report);
    let _ = writeln!(
        out,
        "  {:<12}{:.3} handshakes/op, {} CPU us/op, {} UDP drops",
        "cost",
        report.transport.handshakes_per_op,
        digits(report.resources.cpu_us_per_op),
        report.transport.udp_rcvbuf_errors,
    );
    if let Some(row) = &report.dht {
        dht(&mut out, row);
    }
    if let Some(row) = &report.rpc {
        rpc::lines(&mut out, row);
    }
    if let Some(findings) = &report.audit {
        audit(&mut out, "audit", findings);
    }
    if let Some(after) = &report.after_kill {
        let _ = writeln!(out, "  {:<12}{} of {} nodes went silent", "kill", after.killed, config.nodes);
        audit(&mut out, "audit", &after.audit);
    }
    let _ = writeln!(out, "  {:<12}{}  ({})", "measurement", verdict(report.validity.ok), notes(report));
    for complaint in report.validity.complaints() {
        let _ = writeln!(out, "  {:<12}{complaint}", "");
    }
    if !report.complete {
        out.push_str("  PARTIAL: stopped by a signal\n");
    }
    out
}

fn latency_table(out: &mut String, report: &Report) {
    let Some(ok) = report.ok() else { return };
    let title = match report.config.rate {
        Some(_) => "response: from the intended start; service: from the actual start; wait: between the two",
        None => "service time (closed loop: not comparable with an open loop)",
    };
    let _ = writeln!(out, "\n  {title}");
    let _ = writeln!(
        out,
        "  {:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    for (name, latency) in [("response", &ok.response), ("service", &ok.service), ("wait", &ok.wait)] {
        if let Some(latency) = latency {
            let _ = writeln!(
                out,
                "  {name:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
                shown(latency.p50),
                shown(latency.p90),
                shown(latency.p99),
                shown(latency.p99_9),
                shown(latency.p99_99),
                nanos(latency.max),
            );
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests;
