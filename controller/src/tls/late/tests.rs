//! Certificates before and after their end, shown to the verifier at a time of the test's choice.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::{RootCertStore, server::WebPkiClientVerifier};

use super::*;
use crate::pki::{Authority, PublicKey, generate_key};

const LIFE: Duration = Duration::from_secs(100);
const GRACE: Duration = Duration::from_secs(1000);

struct World {
    authority: Authority,
    issuer: Issuer<'static, KeyPair>,
    verifier: LateVerifier,
}

impl World {
    fn new(grace: Duration) -> Self {
        let (certificate, key) = Authority::generate().expect("a new authority");
        let authority = Authority::from_pem(&certificate, &key).expect("our own");
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key).expect("a key")).expect("a CA");
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("sound");
        Self { authority, issuer, verifier: LateVerifier::new(strict, Grace(grace)) }
    }

    fn node(&self) -> CertificateDer<'static> {
        let request =
            CertificateParams::default().serialize_request(&generate_key().expect("a key")).expect("a request");
        let key = PublicKey::of_request(request.der()).expect("a key");
        self.authority.node(&key, &"n1".parse().expect("a name"), 7, LIFE).expect("signed").der().clone()
    }

    /// A node's certificate but for its usage.
    fn for_servers(&self) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let uri = "weft://node/n1?incarnation=7".try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = time::OffsetDateTime::now_utc() + LIFE;
        params.signed_by(&generate_key().expect("a key"), &self.issuer).expect("signed").der().clone()
    }

    /// Shows a certificate so long after its end, or before it.
    fn shown(&self, certificate: &CertificateDer<'_>, after_end: i64) -> Result<(), Error> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
        let at = u64::try_from(parsed.validity().not_after.timestamp() + after_end).expect("after 1970");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        self.verifier.verify_client_cert(certificate, &[], now).map(drop)
    }
}

#[test]
fn a_nodes_certificate_gets_in_until_the_grace_is_over() {
    let world = World::new(GRACE);
    let certificate = world.node();
    for (after_end, gets_in) in [(-1, true), (1, true), (999, true), (1000, false), (100_000, false)] {
        let shown = world.shown(&certificate, after_end);
        assert_eq!(shown.is_ok(), gets_in, "{after_end} s after its end: {shown:?}");
        assert!(
            shown.as_ref().is_ok() || shown.as_ref().is_err_and(has_ended),
            "refused for another reason: {shown:?}"
        );
    }
    let strict = World::new(Duration::ZERO);
    assert!(strict.shown(&strict.node(), 1).is_err_and(|error| has_ended(&error)), "no grace was asked for");
}

#[test]
fn nothing_else_is_forgiven_with_the_end() {
    let world = World::new(GRACE);
    assert!(world.shown(&World::new(GRACE).node(), 1).is_err(), "another authority's");
    assert!(world.shown(&world.for_servers(), 1).is_err(), "one for servers");
    let mut forged = world.node().to_vec();
    // The signature is the last part of a certificate.
    *forged.last_mut().expect("not empty") ^= 1;
    assert!(world.shown(&forged.into(), 1).is_err(), "a forged one");
}

#[test]
fn an_operators_certificate_ends_with_its_end() {
    let world = World::new(GRACE);
    let operator = world.authority.operator(&generate_key().expect("a key"), "admin", LIFE).expect("signed");
    assert_eq!(world.shown(operator.der(), -1), Ok(()));
    assert!(world.shown(operator.der(), 1).is_err_and(|error| has_ended(&error)));
}
