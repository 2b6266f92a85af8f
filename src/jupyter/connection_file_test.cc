#include "jupyter/connection_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nbos::jupyter {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kPorts =
    R"("shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5)";

std::string file(std::string_view more) {
    return "{" + std::string(kPorts) + (more.empty() ? "" : ", ") + std::string(more) + "}";
}

std::string error_of(std::string_view json) {
    const auto parsed = parse_connection_file(json);
    return parsed ? "none" : parsed.error().what;
}

TEST(ConnectionFile, NamesTheEndpointsOfBothTransports) {
    const auto tcp = parse_connection_file(file(R"("ip": "127.0.0.2", "transport": "tcp")"));
    ASSERT_TRUE(tcp);
    EXPECT_EQ(tcp->endpoint(tcp->iopub_port), "tcp://127.0.0.2:2");
    const auto ipc = parse_connection_file(file(R"("ip": "/run/k", "transport": "ipc")"));
    ASSERT_TRUE(ipc);
    EXPECT_EQ(ipc->endpoint(ipc->hb_port), "ipc:///run/k-5");
}

TEST(ConnectionFile, HasStockDefaultsAndIgnoresWhatItDoesNotKnow) {
    const auto parsed = parse_connection_file(
        file(R"("key": "", "signature_scheme": "hmac-sha256", "kernel_name": "nbos", "x": [1])"));
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->ip, "127.0.0.1");
    EXPECT_EQ(parsed->transport, "tcp");
    EXPECT_EQ(parsed->key, "");
}

TEST(ConnectionFile, SaysWhatIsWrong) {
    EXPECT_THAT(error_of("["), HasSubstr("no JSON object"));
    EXPECT_THAT(error_of("{}"), HasSubstr("\"shell_port\" is missing"));
    EXPECT_THAT(error_of(R"({"shell_port": 0})"), HasSubstr("from 1 to 65535"));
    EXPECT_THAT(error_of(R"({"shell_port": 70000})"), HasSubstr("from 1 to 65535"));
    EXPECT_THAT(error_of(R"({"shell_port": "1"})"), HasSubstr("from 1 to 65535"));
    EXPECT_THAT(error_of(R"({"shell_port": 7, "iopub_port": 7})"), HasSubstr("same port"));
    EXPECT_THAT(error_of(file(R"("transport": "inproc")")), HasSubstr("use tcp or ipc"));
    EXPECT_THAT(error_of(file(R"("signature_scheme": "hmac-md5")")), HasSubstr("hmac-sha256"));
    EXPECT_THAT(error_of(file(R"("curve_publickey": "p")")), HasSubstr("CurveZMQ"));
}

TEST(ConnectionFile, NeverShowsTheKey) {
    EXPECT_THAT(error_of(R"({"key": "secret-key", "shell_port": 0})"), Not(HasSubstr("secret")));
    EXPECT_THAT(error_of(R"({"key": ["secret-key"]})"), Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace nbos::jupyter
