//! Losses are planted, and found.

use super::*;
use crate::plan::tests::plan;
use crate::target::fake::Fake;

/// A fake with 1,200 stores, and what the receipts claim.
async fn stored() -> (Arc<Fake>, Target, Arc<Data>, Vec<Claim>) {
    let (fake, target) = Fake::default().target();
    let data = Arc::new(Data::new(&plan(), |_| true));
    let mut sample = Sample::new(42);
    for i in 0..1200 {
        let proof = target.store(data.key(i), data.value(i)).await.expect("no faults");
        sample.offer(i, proof);
    }
    (fake, target, data, sample.into_claims())
}

/// The newest claim on the key of each kind of fault.
fn newest(claims: &[Claim], skip: usize) -> Claim {
    let mut sorted = claims.to_vec();
    sorted.sort_by_key(|claim| std::cmp::Reverse(claim.seq));
    sorted[skip].clone()
}

async fn reasons(target: &Target, data: &Arc<Data>, claims: Vec<Claim>) -> (u64, Vec<&'static str>) {
    let findings = audit(target, data, claims.len() as u64, claims).await;
    (findings.missing, findings.losses.iter().map(|loss| loss.reason).collect())
}

#[tokio::test]
async fn kept_promises_are_clean() {
    let (_, target, data, claims) = stored().await;
    assert_eq!(claims.len(), 1200);
    let findings = audit(&target, &data, 1200, claims).await;
    assert_eq!((findings.sampled, findings.asked, findings.missing), (1200, 3600, 0));
    assert!(findings.losses.is_empty());
}

#[tokio::test]
async fn each_kind_of_loss_is_found() {
    let (fake, target, data, claims) = stored().await;
    let victim = newest(&claims, 0);
    let claim = vec![victim.clone()];

    fake.spoil(1, victim.key, None);
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["absent"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq - 1, value: data.value(victim.item) }));
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["older"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq, value: data.value(victim.item + 1) }));
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["other_value"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq + 9, value: "not ours at all".into() }));
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["other_value"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq + 9, value: data.value(3) }));
    assert_eq!(reasons(&target, &data, claim).await, (0, vec![]));

    let mut stranger = victim;
    stranger.replicas = vec![NodeId::from_bytes([9; 32])];
    assert_eq!(reasons(&target, &data, vec![stranger]).await, (1, vec!["no_answer"]));
}

#[tokio::test]
async fn a_planted_claim_is_reported() {
    let (_, target, data, mut claims) = stored().await;
    claims.push(Claim::planted(0, target.a_peer()));
    assert_eq!(reasons(&target, &data, claims).await, (1, vec!["absent"]));
}

#[test]
fn the_sample_is_the_same_however_it_was_split() {
    let proof = || Proof::Fake(Key::of_name("x"), 1, Vec::new());
    let mut whole = Sample::new(7);
    (0..10_000).for_each(|i| whole.offer(i, proof()));
    let mut merged = Sample::default();
    for worker in 0..8 {
        let mut part = Sample::new(7);
        (worker..10_000).step_by(8).for_each(|i| part.offer(i, proof()));
        merged.merge(part);
    }
    assert_eq!(merged.seen(), 10_000);
    let items = |sample: Sample| {
        let mut items: Vec<_> = sample.into_claims().into_iter().map(|claim| claim.item).collect();
        items.sort();
        items
    };
    let (whole, merged) = (items(whole), items(merged));
    assert_eq!(whole.len(), SAMPLE);
    assert_eq!(whole, merged);
}
