//! Keys, certificates and signatures, made fresh by the `openssl` command line.

use der::Decode;
use der::asn1::UintRef;
use der::{Reader, SliceReader};
use gatehouse::digest::Digest;
use gatehouse::policy::types::{Anchor, AnchorKey};
use gatehouse::rsi::HashAlgorithm;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Extensions of a CA.
pub const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
/// Extensions of a leaf.
pub const LEAF: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";
/// Options of `openssl genpkey` for the kinds of keys.
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
/// See [`P256`].
pub const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
/// Options of `openssl dgst` and `openssl req` for RSASSA-PSS with a salt as long as the digest.
pub const PSS: &[&str] = &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"];

/// A folder of its own for the files of one test.
pub struct Pki {
    folder: PathBuf,
    files: Cell<u32>,
}

/// What one certificate shall be.
#[derive(Clone, Copy)]
pub struct Spec<'a> {
    /// As `openssl req -subj` has it.
    pub subject: &'a str,
    /// Options of `openssl genpkey`.
    pub key: &'a [&'a str],
    /// Lines of an extension section.
    pub extensions: &'a str,
    /// The issuer's digest option and signature options.
    pub signing: &'a [&'a str],
}

/// A certificate and its key.
pub struct Issued {
    /// The certificate.
    pub der: Vec<u8>,
    /// The certificate's file, in PEM.
    pub pem: PathBuf,
    /// The private key's file, in PEM.
    pub key: PathBuf,
}

/// Returns the usual certificate: P-256, SHA-256.
pub const fn spec<'a>(subject: &'a str, extensions: &'a str) -> Spec<'a> {
    Spec { subject, key: P256, extensions, signing: &["-sha256"] }
}

impl Pki {
    /// Makes the folder. `name` is the test's.
    pub fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("openssl-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self { folder, files: Cell::new(0) }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.files.set(self.files.get() + 1);
        self.folder.join(format!("{}.{suffix}", self.files.get()))
    }

    /// Makes a private key.
    pub fn key(&self, options: &[&str]) -> PathBuf {
        let path = self.file("key");
        openssl(Command::new("openssl").arg("genpkey").args(options).arg("-out").arg(&path));
        path
    }

    /// Makes a private key on a curve whose public point is written compressed.
    pub fn compressed_key(&self, options: &[&str]) -> PathBuf {
        let (path, out) = (self.key(options), self.file("key"));
        openssl(
            Command::new("openssl")
                .args(["ec", "-conv_form", "compressed", "-in"])
                .arg(&path)
                .arg("-out")
                .arg(&out),
        );
        out
    }

    /// Makes a key and its certificate. Without an issuer it signs itself.
    pub fn issue(&self, spec: &Spec<'_>, issuer: Option<&Issued>) -> Issued {
        self.certify(spec, self.key(spec.key), issuer)
    }

    /// Makes a certificate for a key that is there.
    pub fn certify(&self, spec: &Spec<'_>, key: PathBuf, issuer: Option<&Issued>) -> Issued {
        let (config, pem, out) = (self.file("cnf"), self.file("pem"), self.file("der"));
        let text = format!(
            "[req]\ndistinguished_name=dn\nstring_mask=utf8only\nutf8=yes\n[dn]\n[ext]\n{}",
            spec.extensions
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("openssl");
        command.args(["req", "-new", "-x509", "-days", "3650", "-utf8", "-subj", spec.subject]);
        command.args(spec.signing).args(["-extensions", "ext", "-config"]).arg(&config);
        command.arg("-key").arg(&key).arg("-out").arg(&pem);
        if let Some(issuer) = issuer {
            command.arg("-CA").arg(&issuer.pem).arg("-CAkey").arg(&issuer.key);
        }
        openssl(&mut command);
        openssl(
            Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&pem).arg("-out").arg(&out),
        );
        Issued { der: fs::read(out).unwrap(), pem, key }
    }

    /// Makes a chain: each certificate is issued by the one before.
    pub fn chain(&self, specs: &[Spec<'_>]) -> Vec<Issued> {
        let mut chain: Vec<Issued> = Vec::new();
        for spec in specs {
            chain.push(self.issue(spec, chain.last()));
        }
        chain
    }

    /// Signs with the private key in the file; the signature as `openssl dgst` writes it: DER for ECDSA.
    pub fn sign(&self, key: &Path, options: &[&str], message: &[u8]) -> Vec<u8> {
        let (input, output) = (self.file("msg"), self.file("sig"));
        fs::write(&input, message).unwrap();
        let mut command = Command::new("openssl");
        command.arg("dgst").args(options).arg("-sign").arg(key).arg("-out").arg(&output).arg(&input);
        openssl(&mut command);
        fs::read(output).unwrap()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Runs a command. These tests are the proof that we are not only right about our own generator: without OpenSSL they
/// fail, they do not pass.
fn openssl(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("the OpenSSL command line is needed (package `openssl`): {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Joins the certificates.
pub fn object(chain: &[Issued]) -> Vec<u8> {
    chain.iter().flat_map(|issued| issued.der.clone()).collect()
}

/// Puts the header of an SPDM slot in front.
pub fn slot(object: &[u8], root: &[u8], hash: HashAlgorithm) -> Vec<u8> {
    let digest = Digest::of(hash, &[root]);
    let len = u16::try_from(4 + digest.as_bytes().len() + object.len()).unwrap();
    [&len.to_le_bytes()[..], &[0, 0], digest.as_bytes(), object].concat()
}

/// Makes an anchor of a certificate.
pub fn anchor(certificate: &[u8]) -> Anchor {
    let digest = Digest::of(HashAlgorithm::Sha384, &[certificate]);
    Anchor { name: "test".into(), key: AnchorKey::Certificate(digest) }
}

/// Turns SEQUENCE { r, s } into r and s, each `len` bytes: the form of SPDM.
pub fn fixed(der: &[u8], len: usize) -> Vec<u8> {
    let pair: [UintRef<'_>; 2] = SliceReader::new(der)
        .unwrap()
        .sequence(|reader| Ok::<_, der::Error>([UintRef::decode(reader)?, UintRef::decode(reader)?]))
        .unwrap();
    pair.iter().flat_map(|n| [vec![0; len - n.as_bytes().len()], n.as_bytes().to_vec()].concat()).collect()
}
