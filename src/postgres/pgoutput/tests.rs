use super::*;
use crate::postgres::fixture::{Datum, Random, corpus, text, update};

fn values(tuple: &Tuple<'_>) -> Vec<String> {
    let shown = |value| match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "unchanged".to_owned(),
        Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Binary(bytes) => format!("{bytes:?}"),
    };
    tuple.values().map(shown).collect()
}

#[test]
fn every_kind_of_message_is_read() {
    for (name, bytes) in corpus() {
        let message = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        match (name, &message) {
            ("begin", Message::Begin(begin)) => assert_eq!(
                *begin,
                Begin {
                    final_lsn: 0x16B_3748,
                    time_us: EPOCH_MICROS + 1,
                    xid: 731
                }
            ),
            ("commit", Message::Commit(commit)) => {
                assert_eq!((commit.lsn, commit.end_lsn), (0x16B_3748, 0x16B_3778));
                assert_eq!(commit.time_us, EPOCH_MICROS);
            }
            ("relation", Message::Relation(relation)) => {
                assert_eq!((relation.schema, relation.name), ("public", "orders"));
                assert_eq!(relation.identity, Identity::Default);
                assert_eq!(relation.columns[1].name, "Total \"x\"");
                assert_eq!(relation.columns[1].typmod, 786_438);
                assert!(relation.columns[0].is_key && !relation.columns[2].is_key);
            }
            ("insert", Message::Insert { relation, new }) => {
                assert_eq!((*relation, new.len()), (16_384, 5));
                let expected = ["17", "null", "unchanged", "größer 😀", "[0, 255]"];
                assert_eq!(values(new), expected);
            }
            (
                "truncate",
                Message::Truncate {
                    relations,
                    cascade,
                    restart,
                },
            ) => {
                assert_eq!(relations.iter().collect::<Vec<_>>(), [16_384, 16_385]);
                assert!(*cascade && *restart);
            }
            ("message", Message::Logical(logical)) => {
                assert!(logical.transactional && logical.prefix == "firstbad");
                assert_eq!(logical.content, b"{\"service\":\"checkout\"}");
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_cut_off_or_too_long_is_refused() {
    for (name, bytes) in corpus() {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{name} cut at {end}");
        }
        let mut more = bytes.clone();
        more.push(0);
        assert!(decode(&more).is_err(), "{name} and a byte more");
    }
    let refused = |bytes: &[u8]| decode(bytes).expect_err("refused").to_string();
    assert!(refused(b"").contains("too early"));
    assert!(refused(b"S").contains("later protocol version"));
    assert!(refused(b"?").contains("byte 63"));
    // A value of two gigabytes that is not there, and one of a negative length.
    let mut huge = b"I\0\0\0\x01N\0\x01t\x7f\xff\xff\xff".to_vec();
    assert!(refused(&huge).contains("too early"));
    huge[9] = 0x80;
    assert!(refused(&huge).contains("negative"));
    assert!(refused(b"T\x7f\xff\xff\xff\0").contains("too early"));
    // So many columns no table has: nothing is made room for.
    assert!(refused(b"R\0\0\0\x01a\0b\0d\xff\xff").contains("more columns"));
    assert!(refused(b"R\0\0\0\x01\xff\0b\0d\0\0").contains("UTF-8"));
}

#[test]
fn no_bytes_are_too_strange() {
    let mut random = Random::new();
    let corpus = corpus();
    let mut read = 0;
    for round in 0..60_000 {
        let (_, bytes) = &corpus[random.below(corpus.len())];
        let mut bytes = bytes.clone();
        match round % 4 {
            0 => {
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            1 => {
                let at = random.below(bytes.len());
                bytes[at] = random.byte();
                bytes.truncate(1 + random.below(bytes.len()));
            }
            2 => {
                let at = random.below(bytes.len());
                let (_, other) = &corpus[random.below(corpus.len())];
                bytes.splice(at.., other[random.below(other.len())..].to_vec());
            }
            _ => {
                let length = random.below(40);
                bytes.extend((0..length).map(|_| random.byte()));
            }
        }
        match decode(&bytes) {
            Ok(Message::Insert { new, .. } | Message::Update { new, .. }) => {
                read += 1;
                assert_eq!(new.values().count(), new.len());
            }
            Ok(Message::Relation(relation)) => assert!(relation.columns.len() < bytes.len()),
            _ => {}
        }
    }
    assert!(read > 100, "some messages were still read");
}

#[test]
fn the_table_of_a_row_is_known_at_once() {
    let bytes = update(16_384, None, &[text("1"), Datum::Null]);
    assert_eq!(row_of(&bytes), Some(16_384));
    assert_eq!(row_of(b"I\0\0"), None);
    assert_eq!(row_of(b"B\0\0\0\0\0"), None);
}
