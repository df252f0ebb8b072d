//! The proof in HELLO holds for one claim, on one connection, from one side.

use super::super::proof::ProofError;
use super::*;

#[tokio::test]
async fn a_proof_holds_for_its_claim_and_connection_only() {
    let (a, b, c) = (identity(1), identity(2), identity(3));
    let (acceptor, dialer, _endpoints) = meet(pinned(&a).server(), to(&pinned(&b), &a)).await.connected();
    let claim = HelloClaim {
        role: Role::Acceptor,
        realm: "example.mesh",
        prover: a.node_id(),
        verifier: b.node_id(),
        boot: 7,
    };
    let proof = HelloProof::new(&acceptor, &a, &claim).unwrap();
    assert_eq!(HelloProof::from_bytes(&proof.to_bytes()), Some(proof));
    assert_eq!(HelloProof::from_bytes(&proof.to_bytes()[1..]), None);
    assert_eq!(proof.verify(&dialer, &claim), Ok(()));

    let bad = Err(ProofError::BadSignature);
    assert_eq!(proof.verify(&dialer, &HelloClaim { role: Role::Dialer, ..claim }), bad);
    assert_eq!(proof.verify(&dialer, &HelloClaim { realm: "example.mesh2", ..claim }), bad);
    assert_eq!(proof.verify(&dialer, &HelloClaim { verifier: c.node_id(), ..claim }), bad);
    assert_eq!(proof.verify(&dialer, &HelloClaim { boot: 8, ..claim }), bad);
    let other = HelloClaim { prover: c.node_id(), ..claim };
    assert_eq!(proof.verify(&dialer, &other), Err(ProofError::WrongKey));

    // Somebody else who claims to be `a`, with his own key and with the key of `a` pasted in.
    let forged = HelloProof::new(&acceptor, &c, &claim).unwrap();
    assert_eq!(forged.verify(&dialer, &claim), Err(ProofError::WrongKey));
    let mut pasted = forged.to_bytes();
    pasted[..32].copy_from_slice(&a.public_key());
    assert_eq!(HelloProof::from_bytes(&pasted).unwrap().verify(&dialer, &claim), bad);

    let (_, elsewhere, _endpoints) = meet(pinned(&a).server(), to(&pinned(&b), &a)).await.connected();
    assert_eq!(proof.verify(&elsewhere, &claim), bad, "a proof belongs to its connection");
}
