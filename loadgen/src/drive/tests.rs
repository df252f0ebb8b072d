//! Phases against a target in memory.

use super::*;
use crate::audit::{SAMPLE, audit};
use crate::plan::tests::plan;
use crate::target::fake::Fake;

async fn run(fake: Fake, plan: &Plan) -> (Phase, Target, Arc<Data>) {
    let (_, target) = fake.target();
    let data = Arc::new(Data::new(plan, |_| true));
    let (_sender, mut stop) = Stop::manual();
    let part = Part { first: 0, duration: plan.duration, ops: plan.ops, title: "test" };
    let phase = drive(&target, &data, plan, part, &mut stop).await.expect("a phase");
    (phase, target, data)
}

#[tokio::test]
async fn a_closed_loop_does_each_operation_once() {
    let fake = Fake::failing(100);
    let (phase, target, data) = run(fake, &plan()).await;
    let tally = phase.tally;
    assert_eq!((phase.intended, phase.dropped), (2000, 0));
    assert_eq!((tally.started, tally.succeeded, tally.records), (2000, 1980, 1980));
    assert_eq!(tally.failures.by_kind().collect::<Vec<_>>(), [(Kind::Backpressure, 20)]);
    assert_eq!(tally.ok.service.as_ref().map(hdrhistogram::Histogram::len), Some(1980));
    assert_eq!(tally.bytes_out, 1980 * 64);
    assert!(tally.ok.response.is_none() && phase.signal.is_none());
    assert_eq!(tally.sample.seen(), 1980);

    let claims = tally.sample.into_claims();
    assert_eq!(claims.len(), SAMPLE);
    let late = claims.iter().filter(|claim| claim.item >= 1000).count();
    assert!((SAMPLE / 3..SAMPLE * 2 / 3).contains(&late), "spread over the run: {late}");
    let findings = audit(&target, &data, 1980, &Arc::new(claims)).await;
    assert_eq!(findings.missing, 0, "{findings:?}");
    assert_eq!(findings.asked, 3 * SAMPLE as u64);
}

#[tokio::test]
async fn an_open_loop_follows_its_schedule() {
    let mut plan = plan();
    (plan.rate, plan.ops, plan.duration) = (Some(5000.0), None, Some(Duration::from_millis(200)));
    let (phase, ..) = run(Fake::default(), &plan).await;
    assert_eq!((phase.intended, phase.dropped, phase.tally.succeeded), (1000, 0, 1000));
    let ok = &phase.tally.ok;
    for hist in [&ok.response, &ok.service, &ok.wait] {
        assert_eq!(hist.as_ref().map(hdrhistogram::Histogram::len), Some(1000));
    }
    assert!(phase.elapsed >= Duration::from_millis(199), "{:?}", phase.elapsed);
}

#[tokio::test]
async fn batches_are_operations_of_many_records() {
    let mut plan = plan();
    (plan.workload, plan.batch, plan.ops) = (crate::plan::Workload::StoreMany, 16, Some(10));
    let (phase, ..) = run(Fake::default(), &plan).await;
    assert_eq!((phase.tally.succeeded, phase.tally.records, phase.tally.sample.seen()), (10, 160, 160));
}

#[tokio::test]
async fn operations_that_never_end_are_timeouts_and_never_forgotten() {
    let mut plan = plan();
    (plan.concurrency, plan.ops) = (4, None);
    (plan.duration, plan.drain) = (Some(Duration::from_millis(50)), Duration::from_millis(50));
    let (phase, ..) = run(Fake::hanging(10), &plan).await;
    assert_eq!(phase.tally.failures.by_kind().collect::<Vec<_>>(), [(Kind::Timeout, 4)]);
    assert_eq!(phase.tally.started, phase.tally.succeeded + 4);

    plan.rate = Some(1000.0);
    let (phase, ..) = run(Fake::hanging(2), &plan).await;
    let open = phase.tally.failures.total();
    assert_eq!((phase.intended, open), (50, 4));
    assert_eq!(phase.intended, phase.tally.succeeded + open + phase.dropped);
}

#[tokio::test]
async fn a_signal_ends_a_phase_early() {
    let mut plan = plan();
    (plan.ops, plan.duration) = (None, Some(Duration::from_secs(3600)));
    for rate in [None, Some(100.0)] {
        plan.rate = rate;
        let (_, target) = Fake::default().target();
        let data = Arc::new(Data::new(&plan, |_| true));
        let (sender, mut stop) = Stop::manual();
        let part = Part { first: 0, duration: plan.duration, ops: None, title: "test" };
        sender.send_replace(Some(Signal::Interrupt));
        let phase = drive(&target, &data, &plan, part, &mut stop).await.expect("a phase");
        assert_eq!(phase.signal, Some(Signal::Interrupt));
    }
}
