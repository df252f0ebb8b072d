//! A private authority for tests and local meshes.

use rcgen::{
    BasicConstraints, CertificateParams, Error, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    PublicKeyData, SignatureAlgorithm, date_time_ymd,
};

use super::certificate::params;
use super::trust::{Admit, Trust};
use crate::identity::{Identity, PUBLIC_KEY_LEN};

/// A private certificate authority that lives in memory: for tests and meshes in one process.
#[derive(Debug)]
pub struct RealmCa {
    root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl RealmCa {
    /// A new authority. All authorities carry the same name; only their keys differ, so that a peer that
    /// compared names alone would be found out.
    ///
    /// # Panics
    ///
    /// When no certificate can be made, which is a defect.
    pub fn generate() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("ed25519 keys can be made");
        let mut params = params("foveola realm");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).expect("the parameters above are valid").der().to_vec();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// The certificate of the authority, DER.
    pub fn root(&self) -> Vec<u8> {
        self.root.clone()
    }

    /// The trust of `identity` as a node of this realm.
    pub fn trust(&self, identity: &Identity, admit: Admit) -> Trust {
        Trust::Realm { ca: vec![self.root()], chain: self.issue(identity), admit }
    }

    /// A chain for `identity`, valid for centuries.
    pub fn issue(&self, identity: &Identity) -> Vec<Vec<u8>> {
        self.sign(identity, &params("foveola node"))
    }

    /// A chain for `identity` that was valid for one day in 2020.
    pub fn issue_expired(&self, identity: &Identity) -> Vec<Vec<u8>> {
        let mut params = params("foveola node");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
        self.sign(identity, &params)
    }

    fn sign(&self, identity: &Identity, params: &CertificateParams) -> Vec<Vec<u8>> {
        let issued: Result<_, Error> = params.signed_by(&Subject(identity.public_key()), &self.issuer);
        vec![issued.expect("the parameters are valid").der().to_vec()]
    }
}

/// The public key of a node, which is all that an authority sees of it.
struct Subject([u8; PUBLIC_KEY_LEN]);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}
