//! frames runs the table of frames against `locate` and `classify`, and cuts them at every byte.
#![cfg(feature = "fixtures")]

use std::collections::HashSet;

use quiclane_wire::fixtures::{CARRIERS, FrameFixture, fixtures, frames, judge_frame};
use quiclane_wire::{Untouched, Verdict, locate};

#[test]
fn every_frame_gets_its_verdict() {
    for FrameFixture { name, bytes, expect } in frames() {
        assert_eq!(judge_frame(bytes.as_slice()), expect, "{name}");
    }
}

#[test]
fn every_packet_gets_its_verdict_in_every_carrier() {
    for carrier in CARRIERS {
        for fixture in fixtures() {
            let frame = carrier.frame(fixture.bytes.as_slice());
            let judged = judge_frame(frame.as_slice());
            assert_eq!(judged, Ok(fixture.verdict), "{} in {}", fixture.name, carrier.name);
        }
    }
}

#[test]
fn a_located_payload_lies_in_the_frame_wherever_it_is_cut() {
    for FrameFixture { name, bytes, .. } in frames() {
        for len in 0..=bytes.as_slice().len() {
            let frame = &bytes.as_slice()[..len];
            if let Ok(located) = locate(frame) {
                assert!(located.payload_at + located.payload_len <= len, "{name} cut at {len}");
                assert!(located.target_at() + 4 <= located.payload_at, "{name} cut at {len}");
            }
        }
    }
}

#[test]
fn the_table_covers_every_reason() {
    let expects: HashSet<_> = frames().filter_map(|frame| frame.expect.err()).collect();
    for reason in Untouched::ALL {
        assert_eq!(expects.contains(&reason), reason != Untouched::Merged, "{reason}");
    }
    assert!(frames().any(|frame| matches!(frame.expect, Ok(Verdict::Live { .. }))));
    let names: HashSet<_> = frames().map(|frame| frame.name).collect();
    assert_eq!(names.len(), frames().count(), "names are their own");
    assert!(names.len() >= 60, "{}", names.len());
}
