//! certificate gets what servers prove their identity with and what clients trust.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quiclane::{Provider, Trust};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate chain with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The server's own certificate first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A self-signed certificate that lives in memory only, for [`NAMES`].
    pub(crate) fn generate() -> Result<Self, CertificateError> {
        let names = NAMES.map(String::from).to_vec();
        let made = rcgen::generate_simple_self_signed(names)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { chain: vec![made.cert.der().clone()], key: key.into() })
    }

    /// Reads PEM files.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let chain = read_certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
            pem::Error::NoItemsFound => CertificateError::NoKey(key.into()),
            error => CertificateError::Pem { path: key.into(), error },
        })?;
        Ok(Self { chain, key })
    }

    /// What tells this certificate from others: SHA-256 of its DER form, in hexadecimal.
    pub(crate) fn fingerprint(&self) -> String {
        let certificate = self.chain.first().map_or(&[][..], |certificate| certificate);
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// SHA-256 of its public key (SubjectPublicKeyInfo) in Base64, by which Chromium is told to
    /// trust it; `None` if the key is of a kind that ring does not know.
    pub(crate) fn key_fingerprint(&self) -> Option<String> {
        let keys = rustls::crypto::ring::default_provider().key_provider;
        let key = keys.load_private_key(self.key.clone_key()).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key()?.as_ref());
        Some(base64(digest.as_ref()))
    }

    /// Trust in exactly this certificate.
    pub(crate) fn trust(&self) -> Result<Trust, CertificateError> {
        trust_in(&self.chain, "the certificate in memory")
    }
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

/// Trust in what chains to the certificates of a PEM file.
pub(crate) fn trust_file(path: &Path) -> Result<Trust, CertificateError> {
    trust_in(&read_certificates(path)?, &path.display().to_string())
}

/// Trust in what the system trusts.
pub(crate) fn trust_system() -> Result<Trust, CertificateError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(loaded.certs);
    if usable == 0 {
        let why = loaded.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(CertificateError::NoSystemRoots(why));
    }
    Ok(Trust::Roots(Arc::new(roots)))
}

/// Lets `provider` seed its random generator now. aws-lc-rs takes 0.1 to 0.3 s for that, once in a
/// process, and the first handshake would have to wait for it on a worker's thread.
pub(crate) fn seed(provider: Provider) {
    let provider = match provider {
        Provider::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
        Provider::Ring => rustls::crypto::ring::default_provider(),
    };
    // If there is no randomness, the first handshake says so.
    let _ = provider.secure_random.fill(&mut [0; 32]);
}

fn trust_in(
    certificates: &[CertificateDer<'static>],
    origin: &str,
) -> Result<Trust, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| CertificateError::Root { origin: origin.into(), error })?;
    }
    Ok(Trust::Roots(Arc::new(roots)))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem { path: path.into(), error })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(path.into()));
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.into(), source })
}

/// Why a certificate, key or root cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// No such file, or not ours to read.
    #[error("reading {path}: {source}; give a PEM file that this user may read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Broken PEM.
    #[error("{path} is not valid PEM: {error}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: pem::Error,
    },
    /// PEM, but no certificate.
    #[error("{0} holds no certificate: a PEM file with a CERTIFICATE section is needed")]
    NoCertificate(PathBuf),
    /// PEM, but no key.
    #[error(
        "{0} holds no private key: a PEM file with a PRIVATE KEY section (PKCS#8, PKCS#1 or SEC1) \
         is needed"
    )]
    NoKey(PathBuf),
    /// Not fit to be trusted.
    #[error("{origin} cannot be trusted as a root: {error}")]
    Root {
        /// Where it comes from.
        origin: String,
        /// What rustls says.
        error: rustls::Error,
    },
    /// An empty system store.
    #[error(
        "no certificates found that this system trusts{0}: give --cacert FILE, or -k for a server \
         of your own"
    )]
    NoSystemRoots(String),
    /// A certificate cannot be made.
    #[error("making a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// What a generated certificate is valid for.
pub(crate) const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        // 44 characters for 32 bytes.
        assert_eq!(Identity::generate().unwrap().key_fingerprint().unwrap().len(), 44);
    }

    #[test]
    fn a_generated_identity_is_usable_and_has_a_fingerprint() {
        let identity = Identity::generate().unwrap();
        assert!(matches!(identity.trust(), Ok(Trust::Roots(roots)) if roots.len() == 1));
        let fingerprint = identity.fingerprint();
        assert_eq!(fingerprint.len(), 64);
        assert_ne!(fingerprint, Identity::generate().unwrap().fingerprint());
    }

    #[test]
    fn files_that_are_no_pem_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("empty.pem");
        fs::write(&path, "nothing here").unwrap();
        let error = Identity::read(&path, &path).unwrap_err();
        assert!(matches!(error, CertificateError::NoCertificate(_)));
        assert!(error.to_string().contains("empty.pem"));
        let error = trust_file(&directory.path().join("absent.pem")).unwrap_err();
        assert!(error.to_string().contains("absent.pem"));
    }

    #[test]
    fn pem_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c"), directory.path().join("k"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let identity = Identity::read(&certificate, &key).unwrap();
        assert_eq!(identity.chain.len(), 1);
        let swapped = Identity::read(&certificate, &certificate).unwrap_err();
        assert!(matches!(swapped, CertificateError::NoKey(_)));
    }
}
