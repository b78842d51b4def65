//! Every shape comes back, and nothing else is taken.

use super::*;

const EDGES: [u64; 11] = [
    0,
    1,
    127,
    128,
    16_383,
    16_384,
    u32::MAX as u64,
    1 << 56,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

fn varint(value: u64) -> Vec<u8> {
    let mut writer = Writer::new(64);
    writer.varint(value);
    writer.finish("test").expect("it fits")
}

#[test]
fn all_shapes_come_back() {
    let mut writer = Writer::new(1024);
    writer.u8(7);
    writer.u16(0x0102);
    writer.u32(u32::MAX);
    writer.u64(1 << 60);
    writer.u128(u128::MAX - 1);
    writer.bool(true);
    writer.bytes(b"key");
    writer.raw(b"tail");
    let length = writer.len();
    let bytes = writer.finish("test").expect("it fits");
    assert_eq!(bytes.len(), length);
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.u8("a"), Ok(7));
    assert_eq!(reader.u16("a"), Ok(0x0102));
    assert_eq!(reader.u32("a"), Ok(u32::MAX));
    assert_eq!(reader.u64("a"), Ok(1 << 60));
    assert_eq!(reader.u128("a"), Ok(u128::MAX - 1));
    assert_eq!(reader.bool("a"), Ok(true));
    assert_eq!(reader.bytes(3, "a"), Ok(&b"key"[..]));
    assert_eq!(reader.position(), length - 4);
    assert_eq!(reader.array("a"), Ok(*b"tail"));
    assert_eq!(reader.finish("a"), Ok(()));
}

#[test]
fn varints_at_their_edges() {
    for value in EDGES {
        let bytes = varint(value);
        assert_eq!(bytes.len(), varint_bytes(value), "{value}");
        assert_eq!(Reader::new(&bytes).varint("v"), Ok(value));
        for cut in 0..bytes.len() {
            let short = Reader::new(&bytes[..cut]).varint("v");
            assert_eq!(
                short,
                Err(Error::Short {
                    what: "v",
                    missing: 1
                })
            );
        }
    }
}

#[test]
fn a_value_has_one_encoding() {
    let wrong: [&[u8]; 4] = [
        &[0x80, 0x00],
        &[0xff, 0x80, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[0xff; 11],
    ];
    for bytes in wrong {
        assert_eq!(
            Reader::new(bytes).varint("v"),
            Err(Error::Varint { what: "v" }),
            "{bytes:x?}"
        );
    }
    assert_eq!(
        Reader::new(&[2]).bool("b"),
        Err(Error::Unknown {
            what: "b",
            value: 2
        })
    );
}

#[test]
fn lengths_and_counts_are_bounded() {
    let mut writer = Writer::new(64);
    writer.bytes(&[1; 20]);
    let bytes = writer.finish("test").expect("it fits");
    let refused = Reader::new(&bytes).bytes(19, "k");
    assert_eq!(
        refused,
        Err(Error::TooLarge {
            what: "k",
            value: 20,
            limit: 19
        })
    );
    let cut = Reader::new(&bytes[..10]).bytes(64, "k");
    assert_eq!(
        cut,
        Err(Error::Short {
            what: "k",
            missing: 11
        })
    );
    // A count is refused before anybody allocates for it, also one that would overflow.
    for claimed in [3, u64::MAX] {
        let bytes = varint(claimed);
        assert!(Reader::new(&bytes).count(usize::MAX, 8, "c").is_err());
    }
    let trailing = Reader::new(&[1, 2]).finish("all");
    assert_eq!(
        trailing,
        Err(Error::Trailing {
            what: "all",
            bytes: 2
        })
    );
}

#[test]
fn a_writer_keeps_its_limit() {
    let mut writer = Writer::new(8);
    writer.u64(1);
    writer.u8(1);
    writer.raw(&[0; 1000]);
    assert_eq!(writer.len(), 1009);
    assert_eq!(
        writer.finish("entry"),
        Err(Error::TooLarge {
            what: "entry",
            value: 1009,
            limit: 8
        })
    );
}
