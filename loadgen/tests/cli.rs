//! The program as its callers see it: output, files, exit codes, signals.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn loadgen(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split(' ')).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(args: &str) -> Output {
    loadgen(args).output().expect("the program runs")
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// The first line of a stream of a child.
fn line(stream: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("readable");
    line
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn a_run_reports_what_it_did() {
    let output = output("run store --ops 2000 --warmup 0s --concurrency 16 --format json");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert_eq!(report["kind"], "loadgen.report");
    assert_eq!((&report["totals"]["intended"], &report["totals"]["ok"]), (&2000.into(), &2000.into()));
    assert_eq!(report["latency_ns"]["store"]["ok"]["service"]["count"], 2000);
    let audit = &report["audit"];
    assert!(audit["sampled"].as_u64() >= Some(1000) && audit["missing"] == 0, "{audit}");
}

#[test]
fn every_workload_runs() {
    for args in [
        "run store --ops 50 --rate 500",
        "run store-many --ops 20 --batch 16",
        "run find --ops 200 --keys 100",
        "run find-many --ops 20 --batch 8 --keys 100",
        "run connect --ops 8 --concurrency 2",
        "run store --ops 8 --transport fresh",
        "run store --ops 1 --transport legacy",
    ] {
        let output = output(&format!("{args} --warmup 0s --format json"));
        assert_eq!(output.status.code(), Some(0), "{args}: {output:?}");
        let report = json(&output);
        assert_eq!(report["totals"]["ok"], report["totals"]["intended"], "{args}");
        assert_eq!(report["totals"]["errors"], serde_json::json!({}), "{args}");
    }
}

#[test]
fn a_lost_record_is_reported_and_fails() {
    let output = output("run store --ops 100 --warmup 0s --plant-loss 2 --format json");
    assert_eq!(output.status.code(), Some(1));
    let audit = &json(&output)["audit"];
    assert_eq!((&audit["missing"], &audit["losses"][0]["reason"]), (&4.into(), &"absent".into()), "{audit}");
}

#[test]
fn what_was_acknowledged_survives_the_silence_of_some() {
    let args =
        "run store --nodes 10 --k 4 --ops 300 --keys 300 --key-dist seq --ack all --audit 300 --kill 0.2";
    let output = output(&format!("{args} --warmup 0s --format json"));
    let report = json(&output);
    let audits = (&report["audit"], &report["after_kill"]);
    assert_eq!(output.status.code(), Some(0), "{audits:?}");
    assert_eq!((&report["totals"]["ok"], &report["config"]["callers"]), (&300.into(), &10.into()));
    assert_eq!(report["dht"]["acked_least"], 4, "{}", report["dht"]);
    let (before, after) = (&report["audit"], &report["after_kill"]["audit"]);
    assert_eq!((&before["asked"], &before["reads"], &before["gone"]), (&1200.into(), &300.into(), &0.into()));
    assert_eq!((&report["after_kill"]["killed"], &after["reads"]), (&2.into(), &300.into()));
    let (asked, gone) =
        (after["asked"].as_u64().expect("a number"), after["gone"].as_u64().expect("a number"));
    assert!(asked + gone == 1200 && gone > 0 && asked > 0, "{after}");
    assert_eq!((&after["missing"], &after["orphans"]), (&0.into(), &0.into()), "{after}");
}

#[test]
fn churn_replaces_nodes_while_the_load_runs() {
    let args = "run find --nodes 10 --k 4 --keys 200 --churn 2 --duration 6s --warmup 0s --format json";
    let output = output(args);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{}", report["totals"]);
    let churn = &report["dht"]["churn"];
    assert!(churn["due"].as_u64() >= Some(1) && churn["replaced"].as_u64() >= Some(1), "{churn}");
    assert!(report["totals"]["ok"].as_u64() > Some(0), "{}", report["totals"]);
}

#[test]
fn calls_go_the_way_they_are_told_and_what_their_callers_hear_is_true() {
    for (args, relays) in [
        ("run rpc --ops 500 --size 32 --callers 2", 0.0),
        ("run rpc --ops 200 --providers 3 --rate 500 --handler-delay 1ms --idempotent", 0.0),
        ("run rpc --ops 60 --providers 2 --route multi-hop --concurrency 4", 3.0),
    ] {
        let output = output(&format!("{args} --warmup 0s --format json"));
        assert_eq!(output.status.code(), Some(0), "{args}: {output:?}");
        let report = json(&output);
        let (totals, rpc) = (&report["totals"], &report["rpc"]);
        assert_eq!(
            (&totals["ok"], &totals["errors"]),
            (&totals["intended"], &serde_json::json!({})),
            "{args}"
        );
        assert_eq!(
            (&rpc["audit"]["acknowledged"], &rpc["audit"]["wrong"]),
            (&totals["ok"], &0.into()),
            "{args}"
        );
        assert!(rpc["audit"]["executions"].as_u64() >= totals["ok"].as_u64(), "{args}: {rpc}");
        assert!(rpc["counted"]["discovery_hits"].as_u64() > Some(0), "{args}: {rpc}");
        // The search for the providers and what the nodes tell each other take the route as well.
        let per_call = rpc["relay_hops_per_call"].as_f64().expect("a number");
        assert!((relays..=relays * 2.0).contains(&per_call), "{args}: {rpc}");
    }
    let output = output("run rpc --ops 100 --warmup 0s --plant-loss 2 --format json");
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    let audit = &report["rpc"]["audit"];
    assert_eq!((&audit["wrong"], &audit["contradictions"][0]["told"]), (&2.into(), &"acknowledged".into()));
    assert_eq!(report["validity"]["ok"], false);
}

#[test]
fn services_are_found_until_they_are_taken_back() {
    let output = output("run discovery --nodes 10 --services 30 --format json");
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{}", report["rpc"]);
    assert_eq!((&report["config"]["rpc"]["providers"], &report["totals"]["ok"]), (&5.into(), &30.into()));
    let rpc = &report["rpc"];
    let row = &rpc["discovery"];
    assert_eq!((&row["services"], &row["withdrawn"]), (&30.into(), &30.into()), "{row}");
    assert_eq!((&row["lost"], &row["left"], &row["unknown"]), (&0.into(), &0.into(), &0.into()), "{row}");
    assert_eq!((&row["advertise"]["ok"], &row["call"]["ok"]), (&30.into(), &30.into()), "{row}");
    assert_eq!(row["call"]["counted"]["discovery_hits"], 30, "{row}");
    assert_eq!((&rpc["audit"]["acknowledged"], &rpc["audit"]["executions"]), (&30.into(), &30.into()));
    assert_eq!((&rpc["audit"]["failed"], &rpc["audit"]["maybe_executed"]), (&30.into(), &0.into()));
}

#[test]
fn nonsense_is_a_usage_error() {
    for args in ["run", "run store --rate x", "run find --transport fresh", "run store --nodes 1"] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args}");
    }
}

#[test]
fn a_signal_yields_partial_results() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let args = "run store --duration 1h --rate 200 --warmup 0s --format json";
        let mut child = loadgen(args).spawn().expect("the program runs");
        assert!(line(child.stderr.as_mut().expect("piped")).contains("mesh of 5 nodes"));
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code));
        let report = json(&output);
        assert_eq!(report["complete"], false);
        assert!(report["totals"]["intended"].as_u64() < Some(200 * 3600));
    }
}

#[test]
fn a_node_lives_as_long_as_its_parent() {
    let mut child = loadgen("node --seed 7").stdin(Stdio::piped()).spawn().expect("the program runs");
    let ready: Value = serde_json::from_str(&line(child.stdout.as_mut().expect("piped"))).expect("JSON");
    assert_eq!(ready["kind"], "loadgen.node");
    assert_eq!(ready["id"].as_str().map(str::len), Some(64));
    assert!(ready["addr"].as_str().is_some_and(|addr| addr.starts_with("127.0.0.1:")));
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());

    let mut child = loadgen("node").stdin(Stdio::piped()).spawn().expect("the program runs");
    line(child.stdout.as_mut().expect("piped"));
    signal(&child, "-TERM");
    assert!(child.wait().expect("it ends").success());
}
