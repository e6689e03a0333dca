//! static_table is the table of fields that both sides know (RFC 9204 appendix A).

/// Name and value of a field.
pub(crate) type Entry = (&'static [u8], &'static [u8]);

/// The entry of an index.
pub(crate) fn get(index: u64) -> Option<&'static Entry> {
    STATIC.get(usize::try_from(index).ok()?)
}

/// What the table has of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Name and value: the index.
    Field(usize),
    /// The name alone: the first index that has it.
    Name(usize),
    Nothing,
}

/// Looks a field up.
pub(crate) fn find(name: &[u8], value: &[u8]) -> Found {
    let mut found = Found::Nothing;
    let mut next = BUCKETS.get(bucket(name)).copied().unwrap_or(NONE);
    // Chains are in the order of the table, so the first hit has the lowest index.
    while let Some((entry, link)) = STATIC.get(usize::from(next)).zip(LINKS.get(usize::from(next)))
    {
        if entry.0 == name {
            if entry.1 == value {
                return Found::Field(usize::from(next));
            }
            if found == Found::Nothing {
                found = Found::Name(usize::from(next));
            }
        }
        next = *link;
    }
    found
}

/// The chain that a name belongs to: by its length and three of its letters.
const fn bucket(name: &[u8]) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let sum = len + 5 * name[len - 1] as usize + 11 * name[len / 2] as usize;
    (sum + 3 * name[len * 3 / 4] as usize) % BUCKETS_LEN
}

/// The first entry of each chain.
static BUCKETS: [u8; BUCKETS_LEN] = CHAINS.0;

/// The next entry of the chain that an entry is in.
static LINKS: [u8; STATIC.len()] = CHAINS.1;

#[expect(clippy::cast_possible_truncation, reason = "99 indices fit")]
const CHAINS: ([u8; BUCKETS_LEN], [u8; STATIC.len()]) = {
    let (mut buckets, mut links) = ([NONE; BUCKETS_LEN], [NONE; STATIC.len()]);
    let mut index = STATIC.len();
    while index > 0 {
        index -= 1;
        let bucket = bucket(STATIC[index].0);
        links[index] = buckets[bucket];
        buckets[bucket] = index as u8;
    }
    (buckets, links)
};

/// A prime: enough that few names share a chain.
const BUCKETS_LEN: usize = 127;

/// The end of a chain.
const NONE: u8 = u8::MAX;

/// RFC 9204 appendix A.
#[rustfmt::skip]
static STATIC: [Entry; 99] = [
    (b":authority", b""),
    (b":path", b"/"),
    (b"age", b"0"),
    (b"content-disposition", b""),
    (b"content-length", b"0"),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"referer", b""),
    (b"set-cookie", b""),
    (b":method", b"CONNECT"),
    (b":method", b"DELETE"),
    (b":method", b"GET"),
    (b":method", b"HEAD"),
    (b":method", b"OPTIONS"),
    (b":method", b"POST"),
    (b":method", b"PUT"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"103"),
    (b":status", b"200"),
    (b":status", b"304"),
    (b":status", b"404"),
    (b":status", b"503"),
    (b"accept", b"*/*"),
    (b"accept", b"application/dns-message"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"accept-ranges", b"bytes"),
    (b"access-control-allow-headers", b"cache-control"),
    (b"access-control-allow-headers", b"content-type"),
    (b"access-control-allow-origin", b"*"),
    (b"cache-control", b"max-age=0"),
    (b"cache-control", b"max-age=2592000"),
    (b"cache-control", b"max-age=604800"),
    (b"cache-control", b"no-cache"),
    (b"cache-control", b"no-store"),
    (b"cache-control", b"public, max-age=31536000"),
    (b"content-encoding", b"br"),
    (b"content-encoding", b"gzip"),
    (b"content-type", b"application/dns-message"),
    (b"content-type", b"application/javascript"),
    (b"content-type", b"application/json"),
    (b"content-type", b"application/x-www-form-urlencoded"),
    (b"content-type", b"image/gif"),
    (b"content-type", b"image/jpeg"),
    (b"content-type", b"image/png"),
    (b"content-type", b"text/css"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-type", b"text/plain"),
    (b"content-type", b"text/plain;charset=utf-8"),
    (b"range", b"bytes=0-"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"strict-transport-security", b"max-age=31536000; includesubdomains"),
    (b"strict-transport-security", b"max-age=31536000; includesubdomains; preload"),
    (b"vary", b"accept-encoding"),
    (b"vary", b"origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-xss-protection", b"1; mode=block"),
    (b":status", b"100"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"302"),
    (b":status", b"400"),
    (b":status", b"403"),
    (b":status", b"421"),
    (b":status", b"425"),
    (b":status", b"500"),
    (b"accept-language", b""),
    (b"access-control-allow-credentials", b"FALSE"),
    (b"access-control-allow-credentials", b"TRUE"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-allow-methods", b"get"),
    (b"access-control-allow-methods", b"get, post, options"),
    (b"access-control-allow-methods", b"options"),
    (b"access-control-expose-headers", b"content-length"),
    (b"access-control-request-headers", b"content-type"),
    (b"access-control-request-method", b"get"),
    (b"access-control-request-method", b"post"),
    (b"alt-svc", b"clear"),
    (b"authorization", b""),
    (b"content-security-policy", b"script-src 'none'; object-src 'none'; base-uri 'none'"),
    (b"early-data", b"1"),
    (b"expect-ct", b""),
    (b"forwarded", b""),
    (b"if-range", b""),
    (b"origin", b""),
    (b"purpose", b"prefetch"),
    (b"server", b""),
    (b"timing-allow-origin", b"*"),
    (b"upgrade-insecure-requests", b"1"),
    (b"user-agent", b""),
    (b"x-forwarded-for", b""),
    (b"x-frame-options", b"deny"),
    (b"x-frame-options", b"sameorigin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_at_its_index_and_every_name_at_its_first() {
        for (index, (name, value)) in STATIC.iter().enumerate() {
            assert_eq!(find(name, value), Found::Field(index));
            let first = STATIC.iter().position(|entry| entry.0 == *name);
            assert_eq!(Some(find(name, b"\0")), first.map(Found::Name));
        }
        assert_eq!(find(b"", b""), Found::Nothing);
        assert_eq!(find(b"x-unknown", b""), Found::Nothing);
    }

    #[test]
    fn chains_are_short() {
        let names = |at: usize| {
            let mut names: Vec<_> =
                STATIC.iter().filter(|entry| bucket(entry.0) == at).map(|entry| entry.0).collect();
            names.dedup();
            names.len()
        };
        let longest = (0..BUCKETS_LEN).map(names).max();
        assert!(longest <= Some(4), "{longest:?} names in a chain");
    }

    #[test]
    fn indices_end_where_the_table_does() {
        assert_eq!(get(98), Some(&(&b"x-frame-options"[..], &b"sameorigin"[..])));
        assert_eq!(get(99), None);
        assert_eq!(get(u64::MAX), None);
    }
}
