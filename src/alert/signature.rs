//! Signatures of webhooks: whoever knows the secret can tell that a request is ours, and how old it is.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// `t=<seconds>,v1=<hex>`: HMAC-SHA256 with the secret over `<seconds>.` and the body.
pub(super) fn sign(secret: &str, seconds: i64, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_finds() {
        // printf '1773331200.{"id":"x"}' | openssl dgst -sha256 -hmac 'whsec-orders'
        assert_eq!(
            sign("whsec-orders", 1_773_331_200, br#"{"id":"x"}"#),
            "t=1773331200,v1=0555a231ad3ba909e2ea2ad82afba3cc7b664a1704a5b571e5bb877a2a1f58f6"
        );
    }
}
