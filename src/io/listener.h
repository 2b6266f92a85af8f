// A TCP socket that listens, as a bare descriptor: it can be opened by one process and served by
// another, which may be replaced while connections wait.
#pragma once

#include <string>

#include "base/result.h"

namespace nbos::io {

// `address`: "ip:port". The descriptor is closed by exec. kIo says what to do about a taken port.
Result<int> listen_on(const std::string& address);

}  // namespace nbos::io
