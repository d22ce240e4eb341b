//! Mail: one message of plain text, to the very address that was checked, encrypted unless that is this machine.

use std::error::Error;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use rustls::pki_types::CertificateDer;

use super::address::{self, Allowed};
use super::message::Message;
use super::{SendError, http, text};
use crate::config::{Email, Security};

/// The longest subject, in bytes.
const SUBJECT_MAX: usize = 200;
/// How long one answer of a server may take, and all of them.
const ANSWER: Duration = Duration::from_secs(15);
const TOTAL: Duration = Duration::from_secs(45);

/// Sends mail.
#[derive(Debug)]
pub(super) struct Mailer {
    email: Email,
    roots: Vec<CertificateDer<'static>>,
    private: bool,
}

impl Mailer {
    /// A mailer that trusts the known authorities and those of a file.
    ///
    /// # Errors
    /// [`SendError::Setup`] where the file cannot be used.
    pub(super) fn new(
        email: &Email,
        ca: Option<&Path>,
        private: bool,
    ) -> Result<Mailer, SendError> {
        let roots = match ca {
            Some(file) => http::certificates(file)
                .map_err(|error| SendError::Setup(format!("ca: {error}")))?,
            None => Vec::new(),
        };
        Ok(Mailer {
            email: email.clone(),
            roots,
            private,
        })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Where the server did not take it.
    pub(super) fn send(&self, message: &Message, text: &str) -> Result<(), SendError> {
        let mail = compose(&self.email, message, text)?;
        let transport = self.transport()?;
        let (done, result) = mpsc::channel();
        // A server that answers a little now and then would hold whoever waits for it.
        let thread = std::thread::Builder::new().name("mail".to_owned());
        let sending = thread.spawn(move || {
            let sent = transport.send(&mail).map(|_| ());
            let _ = done.send(sent.map_err(|error| failed(&error)));
        });
        sending.map_err(|_| SendError::Network("no thread can be started"))?;
        result
            .recv_timeout(TOTAL)
            .unwrap_or(Err(SendError::Timeout))
    }

    fn transport(&self) -> Result<SmtpTransport, SendError> {
        let email = &self.email;
        let allowed = match (email.security, self.private) {
            (Security::Plain, _) => Allowed::LoopbackOnly,
            (_, true) => Allowed::PrivateToo,
            (_, false) => Allowed::Public,
        };
        let found = (email.host.as_str(), email.port).to_socket_addrs();
        let found = found.map_err(|_| SendError::Network("its name has no address"))?;
        let found: Vec<SocketAddr> = address::allowed(found.collect(), allowed)?;
        let address = reachable(&found)?;
        let tls = match email.security {
            Security::Plain => Tls::None,
            Security::Tls => Tls::Wrapper(self.tls()?),
            Security::StartTls => Tls::Required(self.tls()?),
        };
        // The address is connected to; the certificate must have the name.
        let mut transport = SmtpTransport::builder_dangerous(address.ip().to_string())
            .port(address.port())
            .tls(tls)
            .timeout(Some(ANSWER));
        if let Some((user, password)) = &email.login {
            let login = Credentials::new(user.value().to_owned(), password.value().to_owned());
            transport = transport.credentials(login);
        }
        Ok(transport.build())
    }

    fn tls(&self) -> Result<TlsParameters, SendError> {
        let setup = |_| SendError::Setup("TLS cannot be set up".to_owned());
        let mut builder = TlsParameters::builder(self.email.host.clone());
        for root in &self.roots {
            let root = Certificate::from_der(root.to_vec()).map_err(setup)?;
            builder = builder.add_root_certificate(root);
        }
        builder.build_rustls().map_err(setup)
    }
}

/// The first of several addresses that answers: a name may have one that nobody listens on.
fn reachable(found: &[SocketAddr]) -> Result<SocketAddr, SendError> {
    let [first, others @ ..] = found else {
        return Err(SendError::Network("its name has no address"));
    };
    let answers = |one: &&SocketAddr| TcpStream::connect_timeout(one, ANSWER).is_ok();
    let mut all = found.iter().filter(|_| !others.is_empty());
    Ok(*all.find(answers).unwrap_or(first))
}

fn compose(email: &Email, message: &Message, body: &str) -> Result<Mail, SendError> {
    let wrong = |what: &str| SendError::Setup(format!("the mail has no valid {what}"));
    let mailbox = |address: &str| address.parse::<Mailbox>().map_err(|_| wrong("address"));
    let reference = format!("<{}@firstbad>", id(&message.thread));
    let mut mail = Mail::builder()
        .from(mailbox(&email.from)?)
        .subject(text::header(&message.title(), SUBJECT_MAX))
        .message_id(Some(format!("<{}@firstbad>", id(&message.id))))
        // Mail about the same incident is one thread.
        .references(reference)
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        mail = mail.to(mailbox(to)?);
    }
    // Nobody's holidays are to be answered to.
    for (name, value) in [
        ("Auto-Submitted", "auto-generated"),
        ("Firstbad-Id", &*id(&message.id)),
    ] {
        let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|_| wrong("header"))?;
        mail = mail.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    mail.body(body.to_owned()).map_err(|_| wrong("body"))
}

/// An id as a part of a header: a rule's id may hold anything.
fn id(text: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
        true => c,
        false => '-',
    };
    text.chars().map(plain).take(150).collect()
}

/// What a failure means. What the server said is not shown: it may repeat an address or a name.
fn failed(error: &lettre::transport::smtp::Error) -> SendError {
    if let Some(code) = error.status() {
        return SendError::Mail(u16::from(code));
    }
    if error.is_timeout() {
        return SendError::Timeout;
    }
    if error.is_tls() || is_untrusted(error) {
        return SendError::Certificate;
    }
    SendError::Network(match error.is_client() {
        true => "it offers no encryption, or no way to log in that is known here",
        false => "the connection was refused or broke off",
    })
}

/// Whether a certificate is the cause of an error, however deep.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        cause = error.source();
    }
    false
}
