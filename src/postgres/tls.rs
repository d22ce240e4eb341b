//! Encryption, and how much a server must prove.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::{Host, Roots, SslMode};
use super::{PostgresError, Target};
use crate::escape;

/// What a handshake with a target's servers asks of them. Reads the files that the target names.
///
/// # Errors
/// [`PostgresError::Argument`] where a file cannot be used.
pub(super) fn config(target: &Target, mode: SslMode) -> Result<Arc<ClientConfig>, PostgresError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (mut roots, mut pinned) = (RootCertStore::empty(), Vec::new());
    if matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) {
        match &target.roots {
            Roots::Web => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::File(file) => {
                pinned = certificates(file, "sslrootcert")?;
                roots.add_parsable_certificates(pinned.iter().cloned());
            }
        }
    }
    let verifier = Verifier {
        mode,
        roots,
        pinned,
        provider: Arc::clone(&provider),
    };
    let internal = |error: rustls::Error| PostgresError::Tls {
        message: format!("TLS cannot be set up: {error}"),
        hint: None,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &target.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate, "sslcert")?, private_key(key)?)
            .map_err(internal)?,
    };
    Ok(Arc::new(config))
}

fn certificates(file: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    let wrong = |what: String| {
        PostgresError::argument(
            format!("{setting} {}: {what}", escape::os(file.as_os_str())),
            "it must be a file of PEM certificates",
        )
    };
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("it holds no certificate".into())),
        Ok(found) => Ok(found),
        Err(_) => Err(wrong("it cannot be read as PEM".into())),
    }
}

/// A key file, which nobody else may read: psql's rule.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, PostgresError> {
    let shown = escape::os(file.as_os_str());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // A key of root's may be read by a group.
        let is_open = |metadata: std::fs::Metadata| {
            let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
            metadata.mode() & others != 0
        };
        if std::fs::metadata(file).is_ok_and(is_open) {
            return Err(PostgresError::argument(
                format!("sslkey {shown}: others may read it"),
                "`chmod 600` makes it yours",
            ));
        }
    }
    // What the reader says is not repeated: it may quote the file.
    PrivateKeyDer::from_pem_file(file).map_err(|_| {
        PostgresError::argument(
            format!("sslkey {shown}: it cannot be read as a PEM key"),
            "it must be an unencrypted key in PEM",
        )
    })
}

/// The handshake.
pub(super) async fn begin(
    config: Arc<ClientConfig>,
    name: &str,
    stream: TcpStream,
    host: &Host,
) -> Result<TlsStream<TcpStream>, PostgresError> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        PostgresError::argument(
            format!("{} is no name that a certificate can have", host.shown()),
            "name the host as its certificate does",
        )
    })?;
    let connected = TlsConnector::from(config).connect(server, stream).await;
    connected.map_err(|error| failed(error, host))
}

/// What a failed handshake means.
fn failed(error: io::Error, host: &Host) -> PostgresError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(cause) = inner else {
        return PostgresError::io(format!("begin TLS with {}", host.shown()))(error);
    };
    let hint = match cause {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some(
            "name the host as its certificate does (subjectAltName); sslmode=verify-ca would not ask",
        ),
        rustls::Error::InvalidCertificate(_) => Some(
            "give the authority's certificate with sslrootcert=FILE; sslmode=require encrypts without asking who it is",
        ),
        _ => None,
    };
    PostgresError::Tls {
        message: format!(
            "TLS with {} failed: {}",
            host.shown(),
            escape::terminal(&cause.to_string())
        ),
        hint: hint.map(str::to_owned),
    }
}

/// Asks of a certificate what the mode says.
#[derive(Debug)]
struct Verifier {
    mode: SslMode,
    roots: RootCertStore,
    /// The certificates of `sslrootcert`: a server that has one of them as its own is the one that is meant. A self-signed certificate is
    /// the most common one among Postgres servers, and no authority for the library.
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !matches!(self.mode, SslMode::VerifyCa | SslMode::VerifyFull) {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if !self.pinned.iter().any(|pinned| pinned == end_entity) {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        if self.mode == SslMode::VerifyFull {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// The hash of a certificate that RFC 5929 means: by the function of its signature, SHA-256 where that is MD5 or SHA-1. None for
/// functions that are not known here, and for what is no certificate.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }
    let (inside, _) = element(certificate, 0x30)?;
    let (_, behind) = element(inside, 0x30)?;
    let (algorithm, _) = element(behind, 0x30)?;
    let (name, _) = element(algorithm, 0x06)?;
    let suite = match name {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-256, SHA-1.
        [
            0x2a,
            0x86,
            0x48,
            0x86,
            0xf7,
            0x0d,
            0x01,
            0x01,
            0x04 | 0x05 | 0x0b,
        ]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => TLS13_AES_128_GCM_SHA256,
        // RSA and ECDSA with SHA-384.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => TLS13_AES_256_GCM_SHA384,
        _ => return None,
    };
    let hash = suite.tls13()?.common.hash_provider.hash(certificate);
    Some(hash.as_ref().to_vec())
}

/// The first element of DER, which must have this tag: what is inside, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[have, length], rest) = der.split_first_chunk::<2>()?;
    if have != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (bytes, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*bytes)), rest)
        }
        // No certificate of a TLS handshake is longer than 64 KiB here.
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_certificate_is_that_of_its_signature() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls/server.crt");
        let certificate = CertificateDer::from_pem_file(file).expect("it is a certificate");
        let hash = end_point(&certificate).expect("it is signed with SHA-256");
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        // openssl x509 -in server.crt -outform DER | sha256sum
        assert_eq!(
            hex,
            "3fd4ee51d03215b77f2f80794a5a3dce52968ec9e72f2e02feb1522ad238ec07"
        );
        for end in 0..certificate.len() {
            // Cut short anywhere, it is no certificate.
            assert_eq!(end_point(&certificate[..end]), None);
        }
    }
}
