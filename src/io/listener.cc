#include "io/listener.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdlib>

#include "io/dial.h"

namespace nbos::io {

namespace asio = boost::asio;
using asio::ip::tcp;

Result<int> listen_on(const std::string& address) {
    boost::system::error_code error = asio::error::invalid_argument;
    asio::io_context context;
    tcp::acceptor acceptor(context);
    if (const auto parts = split_address(address)) {
        const auto ip = asio::ip::make_address(parts->first, error);
        const auto port = static_cast<std::uint16_t>(std::atoi(parts->second.c_str()));
        const tcp::endpoint endpoint(ip, port);
        const auto step = [&](auto&& work) {
            if (!error) {
                work();
            }
        };
        step([&] { acceptor.open(endpoint.protocol(), error); });
        step([&] { acceptor.set_option(tcp::acceptor::reuse_address(true), error); });
        step([&] { acceptor.bind(endpoint, error); });
        step([&] { acceptor.listen(asio::socket_base::max_listen_connections, error); });
    }
    if (error) {
        return Error{.code = Errc::kIo,
                     .what = fmt::format("cannot listen on '{}': {}; give a free ip:port of this "
                                         "machine, or stop the process that has it (ss -ltnp)",
                                         address, error.message())};
    }
    const int descriptor = acceptor.release();
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    return descriptor;
}

}  // namespace nbos::io
