//! conformance runs the same suite over every backend, through the trait alone.

#[cfg(test)]
use quiclane_datapath::RingMode;

#[cfg(test)]
mod suite;

#[cfg(test)]
fn uring(recv_buffers: u16, mode: RingMode) -> quiclane_datapath::Uring {
    let options = quiclane_datapath::UringOptions { send_slots: 64, recv_buffers, mode };
    quiclane_datapath::Uring::new(&options).unwrap()
}

/// One module per backend with every test of the suite in it.
macro_rules! conformance {
    ($backend:ident, $make:expr, [$($room:ident::$test:ident),* $(,)?]) => {
        mod $backend {
            use super::suite;

            $(#[test]
            fn $test() {
                suite::$room::$test($make);
            })*
        }
    };
}

/// The suite, once per backend.
macro_rules! backends {
    ($tests:tt) => {
        conformance!(epoll, || quiclane_datapath::Epoll::new(64).unwrap(), $tests);
        conformance!(uring, || super::uring(32, super::RingMode::Defer), $tests);
        conformance!(uring_with_four_buffers, || super::uring(4, super::RingMode::Defer), $tests);
        conformance!(uring_coop, || super::uring(32, super::RingMode::Coop), $tests);
    };
}

backends!([
    traffic::ipv4_to_ipv4,
    traffic::ipv6_to_ipv6,
    traffic::ipv4_peer_of_a_dual_stack_socket,
    traffic::ipv6_peer_of_a_dual_stack_socket,
    traffic::the_source_address_is_kept,
    traffic::an_empty_datagram_does_not_end_receiving,
    traffic::large_datagrams_arrive_whole,
    trains::a_train_arrives_as_its_datagrams,
    trains::a_train_of_64_kib_arrives_whole,
    trains::without_gro_every_datagram_is_a_train,
    trains::a_route_without_gso_gets_single_datagrams,
    trains::too_many_segments_are_cut_by_us,
    limits::a_burst_larger_than_all_buffers_arrives,
    limits::trains_max_is_kept,
    limits::a_flooded_socket_does_not_starve_another,
    limits::slots_run_out_and_come_back,
    limits::more_sends_than_slots,
    limits::what_cannot_be_sent_is_counted,
    limits::two_thousand_sockets,
    filters::a_classic_program_chooses_the_socket,
    filters::short_datagrams_are_dropped,
    filters::what_the_kernel_drops_is_counted,
    filters::a_peer_that_does_not_listen_is_told_once_each_time,
    life::a_wait_ends_in_time,
    life::a_wake_up_ends_a_wait,
    life::no_wake_up_is_lost,
    life::a_port_is_free_after_close,
    life::a_port_is_free_after_drop,
    life::last_words_leave_before_a_socket_closes,
    life::nothing_is_delivered_after_close,
    life::closing_and_opening_with_traffic,
]);
