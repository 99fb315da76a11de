use super::*;
use gatehouse_cli::token::Key;
use rmm_model::digest::from_hex;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// A log that begins as each does.
fn log() -> Vec<u8> {
    let mut log = vec![0; 32];
    log[4] = 3;
    log.extend(SPEC_ID);
    log.extend(b"and more");
    log
}

/// The folder of a run, removed when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = format!("gatehouse-verifier-{}-{:?}", std::process::id(), thread::current().id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What a realm answers to a challenge.
type Realm = fn(&[u8]) -> Vec<u8>;

/// Lets QEMU listen late, the realm answer in two pieces, and QEMU end.
fn exchange(realm: Realm, sizes: &[(&str, usize)]) -> (Folder, Vec<ResultLine>) {
    let folder = Folder::new();
    let exchange = Exchange::begin(&folder.0).unwrap();
    thread::sleep(POLL);
    let listener = UnixListener::bind(folder.0.join(SOCKET)).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut line = String::new();
    BufReader::new(socket.try_clone().unwrap()).read_line(&mut line).unwrap();
    let digits = line.strip_prefix("CHALLENGE ").unwrap().strip_suffix('\n').unwrap();
    let answer = realm(&from_hex(digits).unwrap());
    let (first, second) = answer.split_at(answer.len() / 2);
    socket.write_all(first).unwrap();
    thread::sleep(POLL);
    // It may have heard enough.
    let _ = socket.write_all(second);
    drop((socket, listener));
    let data = sizes.iter().map(|(name, size)| ((*name).to_owned(), size.to_string())).collect();
    let console = Console { data, ..Console::default() };
    let results = exchange.end(&folder.0, &console).unwrap();
    (folder, results)
}

fn answer(token: &[u8], log: &[u8], evidence: &[u8]) -> Vec<u8> {
    let mut bytes = b"GATEHOUSE-EVIDENCE 1\n".to_vec();
    for (name, part) in [("token", token), ("event-log", log), ("evidence", evidence)] {
        bytes.extend(format!("{name} {}\n", part.len()).bytes());
        bytes.extend(part);
    }
    bytes.extend(b"END\n");
    bytes
}

fn cca_token(challenge: &[u8]) -> Vec<u8> {
    [&TOKEN_TAGS[0], &b"\xa1\n\x58\x40"[..], challenge, b"rest"].concat()
}

fn good(challenge: &[u8]) -> Vec<u8> {
    answer(&cca_token(challenge), &log(), b"END\n\0\xff")
}

/// Sizes in the tree that fit [`good`].
fn sizes() -> [(&'static str, usize); 2] {
    [("log-size", log().len()), ("evidence-size", 6)]
}

fn words(results: &[ResultLine]) -> Vec<(&str, Word)> {
    results.iter().map(|result| (result.name.as_str(), result.result)).collect()
}

#[test]
fn all_parts_arrive_and_are_kept() {
    let (folder, results) = exchange(good, &sizes());
    let names = ["evidence-complete", "evidence-fresh", "event-log-begins"];
    assert_eq!(words(&results), names.map(|name| (name, Word::Pass)), "{results:?}");
    let read = |name: &str| fs::read(folder.0.join(name)).unwrap();
    let challenge = read("challenge.bin");
    assert_eq!(challenge.len(), 64);
    assert_eq!(read("token.cbor"), cca_token(&challenge));
    assert_eq!((read("event-log.bin"), read("evidence.cbor")), (log(), b"END\n\0\xff".to_vec()));
}

#[test]
fn each_challenge_is_another_one() {
    let folder = Folder::new();
    let first = Exchange::begin(&folder.0).unwrap().challenge.clone();
    assert_ne!(first, Exchange::begin(&folder.0).unwrap().challenge);
}

#[test]
fn a_token_over_another_challenge_is_old_and_one_of_another_kind_is_not_judged() {
    let fresh = |realm: Realm| exchange(realm, &sizes()).1[1].result;
    assert_eq!(fresh(|_| answer(&cca_token(&[7; 64]), &log(), &[0; 6])), Word::Fail);
    assert_eq!(fresh(|_| answer(&[0x5a; 1500], &log(), &[0; 6])), Word::Skip);
    assert_eq!(fresh(|challenge| answer(challenge, &log(), &[0; 6])), Word::Pass);
}

#[test]
fn parts_that_are_not_as_long_as_the_tree_says_are_not_complete() {
    let complete = |realm: Realm, sizes: &[(&str, usize)]| exchange(realm, sizes).1[0].result;
    assert_eq!(complete(good, &[]), Word::Fail);
    assert_eq!(complete(good, &sizes()[..1]), Word::Fail);
    assert_eq!(complete(good, &[("log-size", 1), ("evidence-size", 6)]), Word::Fail);
    let token_alone: Realm = |challenge| answer(&cca_token(challenge), b"", b"");
    assert_eq!(complete(token_alone, &[]), Word::Fail);
    assert_eq!(complete(token_alone, &[("log-size", 0), ("evidence-size", 0)]), Word::Fail);
    assert_eq!(complete(token_alone, &sizes()), Word::Fail);
    assert_eq!(complete(|_| answer(b"", &log(), &[0; 6]), &sizes()), Word::Fail);
}

#[test]
fn a_log_begins_with_a_spec_id_event() {
    let begins = |realm: Realm| exchange(realm, &[]).1[2].result;
    assert_eq!(begins(|_| answer(b"t", b"", b"")), Word::Fail);
    assert_eq!(begins(|_| answer(b"t", &log()[1..], b"")), Word::Fail);
    for at in [0, 4, 8, 27, 32, 50] {
        let mut bad = log();
        bad[at] ^= 0x80;
        assert!(!is_log(&bad), "{at}");
    }
    assert_eq!(begins(|_| answer(b"t", &log(), b"")), Word::Pass);
}

#[test]
fn an_answer_that_is_cut_wherever_is_a_failure_and_nothing_is_kept() {
    let whole = good(&[7; 64]);
    assert!(parse(&whole).unwrap().is_some());
    for end in 0..whole.len() {
        assert_eq!(parse(&whole[..end]), Ok(None), "{end}");
    }
    let (folder, results) = exchange(|challenge| good(challenge)[..100].to_vec(), &sizes());
    assert_eq!(words(&results), [("evidence-complete", Word::Fail)]);
    assert!(results[0].detail.contains("ends after 100 bytes"), "{results:?}");
    assert!(!folder.0.join(TOKEN_FILE).exists());
}

#[test]
fn any_other_form_is_refused() {
    for wrong in [
        "GATEHOUSE-EVIDENCE 2\n",
        "GATEHOUSE-EVIDENCE 1\nevent-log 0\n",
        "GATEHOUSE-EVIDENCE 1\ntoken\n",
        "GATEHOUSE-EVIDENCE 1\ntoken \n",
        "GATEHOUSE-EVIDENCE 1\ntoken +1\nx",
        "GATEHOUSE-EVIDENCE 1\ntoken -1\n",
        "GATEHOUSE-EVIDENCE 1\ntoken  1\nx",
        "GATEHOUSE-EVIDENCE 1\ntoken 16777217\n",
        "GATEHOUSE-EVIDENCE 1\ntoken 99999999999999999999\n",
        "GATEHOUSE-EVIDENCE 1\ntoken 0\nevent-log 0\nevidence 0\nend\n",
        "GATEHOUSE-EVIDENCE 1\ntoken 0\nevent-log 0\nevidence 0\nEND\nmore",
    ] {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
    assert!(parse(b"GATEHOUSE-EVIDENCE 1\ntoken 16777216\n").is_ok());
    assert!(parse(b"\xff\n").is_err());
    assert!(parse(&[b'x'; 199]).unwrap().is_none() && parse(&[b'x'; 200]).is_err());
    assert_eq!(parse(b"FAILED no \x1b token\n").unwrap_err(), "the realm says: no \\u{1b} token");
}

#[test]
fn an_answer_without_end_is_cut_behind_its_largest_part() {
    let head = b"GATEHOUSE-EVIDENCE 1\ntoken 16777216\n".to_vec();
    let mut endless = head.chain(std::io::repeat(b'x'));
    assert!(receive(&mut endless).unwrap_err().contains("line"));
}

#[test]
fn a_machine_without_the_socket_is_a_failure() {
    let folder = Folder::new();
    let results = Exchange::begin(&folder.0).unwrap().end(&folder.0, &Console::default()).unwrap();
    assert_eq!(words(&results), [("evidence-complete", Word::Fail)]);
}

#[test]
fn the_platform_key_in_pem_is_the_one_of_the_model() {
    let key = Key::from_pem(&platform_key_pem()).unwrap();
    assert_eq!(key, Key::from_cose(&attest::platform_key().cose_key()).unwrap());
}
