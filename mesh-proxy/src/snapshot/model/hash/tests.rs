use super::*;

fn entries(ports: std::ops::Range<u16>) -> Vec<HashEntry> {
    let count = f64::from(ports.end - ports.start);
    (0..)
        .zip(ports)
        .map(|(position, port)| HashEntry {
            position,
            key: hash_key(([127, 0, 0, 1], port).into()),
            share: 1.0 / count,
        })
        .collect()
}

fn table(rule: HashRule, entries: Vec<HashEntry>) -> HashTable {
    HashTable::new(rule, entries).expect("entries")
}

/// Share of the hashes that fall on each of some positions.
fn shares(table: &HashTable, positions: u32) -> Vec<f64> {
    let mut counts = vec![0.0; positions as usize];
    for i in 0_u64..20_000 {
        counts[table.choose(hash64(&i.to_le_bytes()), 0) as usize] += 1.0 / 20_000.0;
    }
    counts
}

#[test]
fn rings_are_as_envoys() {
    let ring = table(
        HashRule::Ring {
            minimum: 12,
            maximum: 1024,
        },
        entries(90..96),
    );
    let HashTable::Ring(points) = &ring else {
        panic!("no ring")
    };
    let known = [
        (833_437_586_790_550_860, 4),
        (928_266_305_478_181_108, 2),
        (1_033_482_794_131_418_490, 0),
        (3_551_244_743_356_806_947, 5),
        (3_851_675_632_748_031_481, 3),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (7_700_377_290_971_790_572, 3),
        (13_144_177_310_400_110_813, 5),
        (13_444_792_449_719_432_967, 2),
        (15_516_499_411_664_133_160, 4),
        (16_117_243_373_044_804_889, 0),
    ];
    assert_eq!(points, &known);
    assert_eq!(ring.choose(0, 0), 4);
    assert_eq!(ring.choose(833_437_586_790_550_860, 0), 4);
    assert_eq!(ring.choose(833_437_586_790_550_861, 0), 2);
    // Past the last it begins anew.
    assert_eq!(ring.choose(u64::MAX, 0), 4);
    // Further attempts go along the ring.
    assert_eq!([1, 2, 3].map(|attempt| ring.choose(0, attempt)), [2, 0, 5]);
}

#[test]
fn maglev_fills_its_table_in_turns() {
    let maglev = table(HashRule::Maglev(7), entries(90..96));
    let HashTable::Maglev(slots) = &maglev else {
        panic!("no table")
    };
    // As Envoy fills it for these endpoints.
    assert_eq!(slots, &[2, 4, 0, 1, 5, 0, 3]);
    assert_eq!(maglev.choose(7, 0), slots[0]);
}

#[test]
fn shares_of_hashes_follow_weights() {
    for rule in [
        HashRule::Ring {
            minimum: 4096,
            maximum: 8 << 20,
        },
        HashRule::Maglev(65_537),
    ] {
        let mut entries = entries(1..4);
        for (entry, share) in entries.iter_mut().zip([0.1, 0.3, 0.6]) {
            entry.share = share;
        }
        let found = shares(&table(rule, entries), 3);
        for (found, wanted) in found.iter().zip([0.1, 0.3, 0.6]) {
            assert!((found - wanted).abs() < 0.05, "{rule:?}: {found} for {wanted}");
        }
    }
}

#[test]
fn most_hashes_stay_when_an_endpoint_goes() {
    for rule in [
        HashRule::Ring {
            minimum: 1024,
            maximum: 8 << 20,
        },
        HashRule::Maglev(65_537),
    ] {
        let all = table(rule, entries(1..11));
        let mut fewer = entries(1..11);
        fewer.pop();
        fewer.iter_mut().for_each(|e| e.share = 1.0 / 9.0);
        let fewer = table(rule, fewer);
        let moved = (0_u64..10_000)
            .map(|i| hash64(&i.to_le_bytes()))
            .filter(|hash| all.choose(*hash, 0) != 9 && all.choose(*hash, 0) != fewer.choose(*hash, 0))
            .count();
        // A ring of this size gives every endpoint that stays a tenth more points.
        assert!(moved < 1500, "{rule:?}: {moved} of 10000 moved without need");
    }
}

#[test]
fn without_endpoints_there_is_no_table() {
    assert!(HashTable::new(HashRule::Maglev(7), Vec::new()).is_none());
}
