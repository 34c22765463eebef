//! What stands for signatures in a crate that was built without them: keys that there are none of.

#[derive(Clone, Debug)]
pub(crate) enum SigningKey {}

impl SigningKey {
    pub(crate) fn sign(&self, _manifest: &[u8]) -> Result<String, String> {
        match *self {}
    }
}

#[derive(Clone, Debug)]
pub(crate) enum TrustedKeys {}

impl TrustedKeys {
    pub(crate) fn verify(&self, _manifest: &[u8], _signature: &[u8]) -> Result<(), String> {
        match *self {}
    }
}
