#include "io/peer_transport.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/wire.h"
#include "io/frames.h"
#include "io/tls.h"

namespace nbos::io {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
using asio::ip::tcp;

// A port that was free a moment ago.
std::uint16_t free_port() {
    asio::io_context context;
    const tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
    return acceptor.local_endpoint().port();
}

std::string loopback(std::uint16_t port) { return fmt::format("127.0.0.1:{}", port); }

// One end under test, with all that its callbacks said.
struct End {
    HostId id;
    std::string address;
    std::unique_ptr<PeerTransport> transport;
    std::vector<std::pair<HostId, PeerState>> states;
    std::vector<std::string> frames;

    bool saw(const HostId& peer, PeerState state) const {
        return std::find(states.begin(), states.end(), std::pair(peer, state)) != states.end();
    }
};

class Transport : public ::testing::Test {
protected:
    Transport() : dir_(std::filesystem::temp_directory_path() / ("nbos-" + random_uuid().str())) {
        EXPECT_TRUE(ensure_authority(authority()));
    }
    ~Transport() override {
        a_.transport.reset();
        b_.transport.reset();
        std::filesystem::remove_all(dir_);
    }
    std::string authority() const { return dir_ / "pki"; }

    PeerTransportOptions options(const End& end) const {
        PeerTransportOptions options;
        options.self = end.id;
        options.tls = *issue(authority(), end.id.value);
        options.listen = end.address;
        return options;
    }
    void open(End& end, const PeerTransportOptions& options) {
        auto opened = PeerTransport::open(
            loop_, options,
            [&end](const HostId&, FrameKind, std::string_view payload) {
                end.frames.emplace_back(payload);
            },
            [&end](const HostId& peer, PeerState state) { end.states.emplace_back(peer, state); });
        ASSERT_TRUE(opened) << opened.error().what;
        end.transport = *std::move(opened);
    }
    void open_both() {
        open(a_, options(a_));
        open(b_, options(b_));
        introduce();
    }
    void introduce() {
        const std::map<HostId, std::string> peers{{a_.id, a_.address}, {b_.id, b_.address}};
        if (a_.transport) {
            a_.transport->set_peers(peers);
        }
        if (b_.transport) {
            b_.transport->set_peers(peers);
        }
    }
    bool both_up() const {
        return a_.transport->connected(b_.id) && b_.transport->connected(a_.id);
    }
    // Runs the loop until `done`; false when that takes absurdly long.
    bool until(const std::function<bool()>& done) {
        const auto stop = std::chrono::steady_clock::now() + 30s;
        auto& context = *static_cast<asio::io_context*>(loop_.native());
        while (!done()) {
            if (std::chrono::steady_clock::now() > stop) {
                return false;
            }
            context.restart();
            context.run_one_for(20ms);
        }
        return true;
    }
    void run_for(std::chrono::milliseconds time) {
        const auto stop = std::chrono::steady_clock::now() + time;
        until([&] { return std::chrono::steady_clock::now() > stop; });
    }

    std::filesystem::path dir_;
    EventLoop loop_;
    End a_{.id = HostId{"host-a"}, .address = loopback(free_port())};
    End b_{.id = HostId{"host-b"}, .address = loopback(free_port())};
};

TEST_F(Transport, CarriesFramesOfAllSizesInOrderBothWays) {
    open_both();
    ASSERT_TRUE(until([&] { return both_up(); }));
    std::vector<std::string> sent;
    for (const std::size_t size : {0UL, 1UL, 100UL, 65'535UL, 65'536UL, 5'000'000UL, 3UL}) {
        sent.emplace_back(size, static_cast<char>('a' + sent.size()));
        a_.transport->send(b_.id, FrameKind::kRpc, Bytes(sent.back()));
        b_.transport->send(a_.id, FrameKind::kRaft, Bytes(sent.back()));
    }
    ASSERT_TRUE(
        until([&] { return a_.frames.size() == sent.size() && b_.frames.size() == sent.size(); }));
    EXPECT_TRUE(a_.frames == sent);
    EXPECT_TRUE(b_.frames == sent);
}

TEST_F(Transport, AHeartbeatOvertakesBulkThatIsHalfSent) {
    open_both();
    ASSERT_TRUE(until([&] { return both_up(); }));
    std::vector<std::string> bulk;
    for (const std::size_t size : {20'000'000UL, 20'000'000UL, 70'000UL, 3UL}) {
        bulk.emplace_back(size, static_cast<char>('a' + bulk.size()));
        a_.transport->send(b_.id, FrameKind::kRaftBulk, Bytes(bulk.back()));
    }
    run_for(1ms);  // the first is on its way
    a_.transport->send(b_.id, FrameKind::kRaft, Bytes::copy("heartbeat"));
    a_.transport->send(b_.id, FrameKind::kRpc, Bytes::copy("call"));
    ASSERT_TRUE(until([&] { return b_.frames.size() == bulk.size() + 2; }));
    EXPECT_EQ(b_.frames[0], "heartbeat");
    EXPECT_EQ(b_.frames[1], "call");
    b_.frames.erase(b_.frames.begin(), b_.frames.begin() + 2);
    EXPECT_TRUE(b_.frames == bulk);
}

TEST_F(Transport, BothSidesSeeADeathAndAReturn) {
    open_both();
    ASSERT_TRUE(until([&] { return both_up(); }));
    b_.transport.reset();  // the one that is dialled dies: the dialler is refused
    ASSERT_TRUE(until([&] { return a_.saw(b_.id, PeerState::kRefused); }));
    EXPECT_TRUE(a_.saw(b_.id, PeerState::kDown));

    b_.states.clear();
    open(b_, options(b_));
    introduce();
    ASSERT_TRUE(until([&] { return both_up(); }));
    a_.transport.reset();  // the dialler dies: the other side probes and is refused
    ASSERT_TRUE(until([&] { return b_.saw(a_.id, PeerState::kRefused); }));
    EXPECT_TRUE(b_.saw(a_.id, PeerState::kDown));

    a_.states.clear();
    open(a_, options(a_));
    introduce();
    ASSERT_TRUE(until([&] { return both_up(); }));
}

TEST_F(Transport, ANewProcessIsToldFromANewConnection) {
    open_both();
    ASSERT_TRUE(until([&] { return both_up(); }));
    const auto first = b_.transport->incarnation(a_.id);
    EXPECT_NE(first, 0U);
    a_.transport->set_peers({});  // the connection ends; the process does not
    ASSERT_TRUE(until([&] { return !b_.transport->connected(a_.id); }));
    EXPECT_EQ(b_.transport->incarnation(a_.id), 0U);
    introduce();
    ASSERT_TRUE(until([&] { return both_up(); }));
    EXPECT_EQ(b_.transport->incarnation(a_.id), first);
    a_.transport.reset();
    open(a_, options(a_));
    introduce();
    ASSERT_TRUE(until([&] { return both_up() && b_.transport->incarnation(a_.id) != first; }));
}

TEST_F(Transport, AGatewayDialsAndIsNotProbed) {
    open(b_, options(b_));
    End gateway{.id = HostId{"z-gateway"}};
    open(gateway, options(gateway));
    gateway.transport->set_peers({{b_.id, b_.address}});
    ASSERT_TRUE(until([&] { return b_.transport->connected(gateway.id); }));
    b_.transport->send(gateway.id, FrameKind::kRpc, Bytes::copy("hello"));
    ASSERT_TRUE(until([&] { return gateway.frames == std::vector<std::string>{"hello"}; }));
    gateway.transport.reset();
    ASSERT_TRUE(until([&] { return b_.saw(gateway.id, PeerState::kDown); }));
    EXPECT_FALSE(b_.saw(gateway.id, PeerState::kRefused));
}

TEST_F(Transport, APeerThatSaysNothingHesitatesUntilItSpeaks) {
    auto impatient = options(a_);
    impatient.ping_interval = std::chrono::milliseconds(20);
    impatient.hesitation = std::chrono::milliseconds(100);
    impatient.silence_max = std::chrono::minutes(1);
    auto mute = options(b_);
    mute.ping_interval = std::chrono::minutes(1);
    mute.silence_max = std::chrono::minutes(10);
    open(a_, impatient);
    open(b_, mute);
    introduce();
    ASSERT_TRUE(until([&] { return both_up(); }));
    ASSERT_TRUE(until([&] { return a_.transport->hesitates(b_.id); }));
    EXPECT_TRUE(a_.transport->connected(b_.id));
    EXPECT_FALSE(b_.transport->hesitates(a_.id));
    b_.transport->send(a_.id, FrameKind::kRpc, Bytes::copy("late"));
    ASSERT_TRUE(until([&] { return !a_.transport->hesitates(b_.id); }));
}

TEST_F(Transport, AnUnlistedPeerIsDisconnected) {
    open_both();
    ASSERT_TRUE(until([&] { return both_up(); }));
    a_.transport->set_peers({});
    EXPECT_TRUE(a_.saw(b_.id, PeerState::kDown));
    EXPECT_FALSE(a_.transport->connected(b_.id));
    ASSERT_TRUE(until([&] { return b_.saw(a_.id, PeerState::kDown); }));
}

TEST_F(Transport, RefusesAnAuthorityThatIsNotItsOwn) {
    ASSERT_TRUE(ensure_authority(dir_ / "other"));
    auto foreign = options(a_);
    foreign.tls = *issue(dir_ / "other", a_.id.value);
    testing::internal::CaptureStderr();
    open(a_, foreign);
    open(b_, options(b_));
    introduce();
    run_for(300ms);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_FALSE(a_.saw(b_.id, PeerState::kUp));
    EXPECT_FALSE(b_.saw(a_.id, PeerState::kUp));
    EXPECT_NE(log.find("to host-b (" + b_.address + "): TLS handshake: its certificate is refused"),
              std::string::npos)
        << log;
}

TEST_F(Transport, RefusesACertificateThatNamesAnother) {
    auto wrong = options(b_);
    wrong.tls = *issue(authority(), "host-x");
    testing::internal::CaptureStderr();
    open(a_, options(a_));
    open(b_, wrong);
    introduce();
    run_for(300ms);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_FALSE(a_.saw(b_.id, PeerState::kUp));
    EXPECT_NE(log.find("its certificate names 'host-x', not 'host-b'"), std::string::npos) << log;
}

TEST_F(Transport, ATakenAddressIsAnErrorThatSaysSo) {
    open(a_, options(a_));
    const auto second = PeerTransport::open(loop_, options(a_), {}, {});
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().what.find(a_.address), std::string::npos);
}

// A process that authenticates with the right files and then does as the test says.
class RoguePeer {
public:
    RoguePeer(const std::string& address, TlsFiles files)
        : context_(*TlsContext::load(files)), tls_(*context_, TlsSession::Side::kDials) {
        const auto port = std::stoi(address.substr(address.rfind(':') + 1));
        socket_.connect({asio::ip::address_v4::loopback(), static_cast<std::uint16_t>(port)});
        while (tls_.handshake() == TlsSession::Step::kNeedsInput) {
            push();
            chunk_.resize(65'536);
            chunk_.resize(socket_.read_some(asio::buffer(chunk_)));
            tls_.feed(chunk_);
        }
    }
    void hello() {
        frame(0, Writer().put(0x534F424EU).put(std::uint16_t{4}).put(std::uint64_t{1}).take());
    }
    void frame(std::uint8_t kind, const std::string& payload) {
        std::string bytes;
        put_frame_header(bytes, payload.size(), kind);
        bytes += payload;
        raw(bytes);
    }
    void raw(const std::string& bytes) {
        tls_.write(bytes);
        push();
    }

private:
    void push() {
        boost::system::error_code ignored;
        asio::write(socket_, asio::buffer(tls_.output()), ignored);
        tls_.output().clear();
    }
    asio::io_context io_;
    tcp::socket socket_{io_};
    std::shared_ptr<TlsContext> context_;
    TlsSession tls_;
    std::string chunk_;
};

class Rogue : public Transport {
protected:
    // Opens `b_` and connects a rogue as host-a; the transport runs while the rogue waits for it.
    void connect() {
        auto limits = options(b_);
        limits.frame_bytes_max = 1000;
        open(b_, limits);
        const auto files = *issue(authority(), a_.id.value);
        std::atomic<bool> done = false;
        std::thread other([&] {
            rogue_ = std::make_unique<RoguePeer>(b_.address, files);
            done = true;
        });
        EXPECT_TRUE(until([&] { return done.load(); }));
        other.join();
    }
    std::unique_ptr<RoguePeer> rogue_;
};

TEST_F(Rogue, AFrameAboveTheLimitClosesTheConnection) {
    connect();
    rogue_->hello();
    rogue_->frame(2, std::string(1000, 'x'));
    ASSERT_TRUE(until([&] { return b_.frames.size() == 1; }));
    rogue_->raw(std::string("\xff\xff\xff\x7f\x02", 5));
    ASSERT_TRUE(until([&] { return b_.saw(a_.id, PeerState::kDown); }));
}

TEST_F(Rogue, PartsAboveTheLimitTogetherCloseTheConnection) {
    connect();
    rogue_->hello();
    rogue_->frame(3, std::string(600, 'x'));
    rogue_->frame(4, std::string(400, 'y'));
    ASSERT_TRUE(until([&] { return b_.frames.size() == 1; }));
    EXPECT_EQ(b_.frames[0], std::string(600, 'x') + std::string(400, 'y'));
    rogue_->frame(3, std::string(600, 'x'));
    rogue_->frame(3, std::string(600, 'x'));
    ASSERT_TRUE(until([&] { return b_.saw(a_.id, PeerState::kDown); }));
}

TEST_F(Rogue, ASilentPeerIsDown) {
    connect();
    rogue_->hello();
    ASSERT_TRUE(until([&] { return b_.saw(a_.id, PeerState::kUp); }));
    ASSERT_TRUE(until([&] { return b_.saw(a_.id, PeerState::kDown); }));
}

TEST_F(Rogue, NothingPassesBeforeHello) {
    connect();
    rogue_->frame(2, "early");
    rogue_->hello();
    run_for(200ms);
    EXPECT_TRUE(b_.frames.empty());
    EXPECT_FALSE(b_.saw(a_.id, PeerState::kUp));
}

TEST_F(Rogue, AnotherVersionIsRefusedWithBothNumbers) {
    connect();
    testing::internal::CaptureStderr();
    rogue_->frame(0, Writer().put(0x534F424EU).put(std::uint16_t{7}).take());
    run_for(200ms);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find("version 7"), std::string::npos) << log;
}

TEST_F(Transport, AHalfOpenHandshakeIsCutOff) {
    auto limits = options(b_);
    limits.handshake_max = 300ms;
    open(b_, limits);
    tcp::socket silent(*static_cast<asio::io_context*>(loop_.native()));
    const auto port = std::stoi(b_.address.substr(b_.address.rfind(':') + 1));
    silent.connect({asio::ip::address_v4::loopback(), static_cast<std::uint16_t>(port)});
    char byte = 0;
    bool cut = false;
    silent.async_read_some(asio::buffer(&byte, 1),
                           [&](const boost::system::error_code& error, std::size_t) {
                               cut = static_cast<bool>(error);
                           });
    EXPECT_TRUE(until([&] { return cut; }));
}

TEST_F(Transport, AReceiverThatDoesNotKeepUpLosesRaftFramesButNotTheConnection) {
    auto small = options(a_);
    small.queued_bytes_max = 100'000;
    open(a_, small);
    open(b_, options(b_));
    introduce();
    ASSERT_TRUE(until([&] { return both_up(); }));
    a_.states.clear();
    for (int i = 0; i < 5; ++i) {
        a_.transport->send(b_.id, FrameKind::kRaft, Bytes(std::string(40'000, 'r')));
    }
    ASSERT_TRUE(until([&] { return b_.frames.size() == 2; }));
    EXPECT_TRUE(a_.states.empty());
    for (int i = 0; i < 5; ++i) {
        a_.transport->send(b_.id, FrameKind::kRpc, Bytes(std::string(40'000, 'r')));
    }
    ASSERT_TRUE(until([&] { return a_.saw(b_.id, PeerState::kDown); }));
    ASSERT_TRUE(until([&] { return both_up(); }));  // and dials again
}

TEST(FrameReader, ArbitraryBytesNeverOverrunAndAnyCutGivesTheSameFrames) {
    const std::uint64_t seed = random_u64();
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Rng rng(seed);
    for (int round = 0; round < 500; ++round) {
        std::string stream;
        std::vector<std::string> sent;
        for (auto n = rng.below(6); n > 0; --n) {
            sent.emplace_back(rng.below(300), 'p');
            put_frame_header(stream, sent.back().size(), 1);
            stream += sent.back();
        }
        const bool mutated = rng.chance(0.5) && !stream.empty();
        if (mutated) {
            stream[rng.below(stream.size())] ^= static_cast<char>(1 + rng.below(255));
        }
        FrameReader reader(256);
        std::vector<std::string> got;
        bool too_long = false;
        for (std::size_t at = 0; at < stream.size() && !too_long;) {
            const auto n = std::min<std::size_t>(1 + rng.below(40), stream.size() - at);
            reader.buffer().append(stream, at, n);
            at += n;
            Frame frame;
            auto next = reader.next(frame);
            for (; next == FrameReader::Next::kFrame; next = reader.next(frame)) {
                EXPECT_LE(frame.payload.size(), 256U);
                got.emplace_back(frame.payload);
            }
            too_long = next == FrameReader::Next::kTooLong;
            reader.compact();
        }
        const bool fits = std::all_of(sent.begin(), sent.end(),
                                      [](const auto& one) { return one.size() <= 256; });
        if (!mutated && fits) {
            EXPECT_EQ(got, sent);
        }
    }
}

}  // namespace
}  // namespace nbos::io
