#include "io/dial.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>

namespace nbos::io {

namespace asio = boost::asio;
using boost::system::error_code;

std::optional<std::pair<std::string, std::string>> split_address(std::string_view address) {
    const auto colon = address.rfind(':');
    if (colon == std::string_view::npos || colon == 0 || colon + 1 == address.size()) {
        return std::nullopt;
    }
    auto host = address.substr(0, colon);
    if (host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    return std::pair(std::string(host), std::string(address.substr(colon + 1)));
}

Dial::Dial(asio::io_context& context) : socket_(context), resolver_(context), timer_(context) {}

std::shared_ptr<Dial> Dial::start(asio::io_context& context, const std::string& address,
                                  std::chrono::milliseconds deadline, Done done) {
    auto dial = std::make_shared<Dial>(context);
    dial->done_ = std::move(done);
    const auto parts = split_address(address);
    if (!parts) {
        asio::post(context, [dial] { dial->finish(asio::error::invalid_argument); });
        return dial;
    }
    dial->timer_.expires_after(deadline);
    dial->timer_.async_wait([dial](const error_code& error) {
        if (!error) {
            dial->finish(asio::error::timed_out);
        }
    });
    const auto connect = [dial](const asio::ip::tcp::resolver::results_type& found) {
        asio::async_connect(dial->socket_, found,
                            [dial](const error_code& error, const asio::ip::tcp::endpoint&) {
                                dial->finish(error);
                            });
    };
    error_code not_numeric;
    const auto numeric = dial->resolver_.resolve(
        parts->first, parts->second,
        asio::ip::tcp::resolver::numeric_host | asio::ip::tcp::resolver::numeric_service,
        not_numeric);
    if (!not_numeric) {
        connect(numeric);  // the usual case; names need a thread of the resolver
        return dial;
    }
    dial->resolver_.async_resolve(
        parts->first, parts->second,
        [dial, connect](const error_code& error,
                        const asio::ip::tcp::resolver::results_type& found) {
            if (error) {
                dial->finish(error);
            } else if (dial->done_) {
                connect(found);
            }
        });
    return dial;
}

void Dial::finish(const error_code& error) {
    if (!done_) {
        return;  // cancelled, or the deadline came first
    }
    const auto done = std::exchange(done_, nullptr);
    timer_.cancel();
    resolver_.cancel();
    if (error) {
        error_code ignored;
        socket_.close(ignored);
    }
    done(error, std::move(socket_));
}

void Dial::cancel() {
    done_ = nullptr;
    timer_.cancel();
    resolver_.cancel();
    error_code ignored;
    socket_.close(ignored);
}

}  // namespace nbos::io
