#include <boost/beast/core/detail/base64.hpp>
#include <fstream>

#include "tests/fuzz/wire_targets.h"

namespace nbos::fuzz {

std::vector<std::string> known_inputs(const Target& target) {
    namespace base64 = boost::beast::detail::base64;
    auto inputs = target.examples();
    std::ifstream corpus(std::string(NBOS_SOURCE_DIR) + "/tests/fuzz/corpus/" + target.name +
                         ".txt");
    for (std::string line; std::getline(corpus, line);) {
        std::string bytes(base64::decoded_size(line.size()), '\0');
        bytes.resize(base64::decode(bytes.data(), line.data(), line.size()).first);
        inputs.push_back(std::move(bytes));
    }
    return inputs;
}

}  // namespace nbos::fuzz
