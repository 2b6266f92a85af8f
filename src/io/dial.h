// A TCP connection attempt with a deadline: what dialling a peer and probing for its death share.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace nbos::io {

// "ip:port", "name:port" or "[v6]:port"; nullopt for anything else.
std::optional<std::pair<std::string, std::string>> split_address(std::string_view address);

class Dial {
public:
    // `socket` is open unless `error` is set; connection_refused is proof that nobody listens.
    using Done = std::function<void(const boost::system::error_code& error,
                                    boost::asio::ip::tcp::socket socket)>;

    // Calls `done` once on the loop, never from inside start(); not at all after cancel().
    static std::shared_ptr<Dial> start(boost::asio::io_context& context, const std::string& address,
                                       std::chrono::milliseconds deadline, Done done);
    void cancel();

    explicit Dial(boost::asio::io_context& context);  // use start()

private:
    void finish(const boost::system::error_code& error);

    boost::asio::ip::tcp::socket socket_;
    boost::asio::ip::tcp::resolver resolver_;
    boost::asio::steady_timer timer_;
    Done done_;
};

}  // namespace nbos::io
