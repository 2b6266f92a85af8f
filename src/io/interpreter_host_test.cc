// Real interpreters: forked, adopted, executing, captured, loaded. Needs a Python that has
// nbos_kernel, named by NBOS_TEST_PYTHON (./nbos test sets it).
#include "io/interpreter_host.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <set>

#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::io {
namespace {

using agent::InterpreterId;

class InterpreterHostTest : public ::testing::Test, public agent::InterpreterListener {
protected:
    void SetUp() override {
        const char* python = getenv("NBOS_TEST_PYTHON");  // NOLINT(concurrency-mt-unsafe)
        if (python == nullptr) {
            GTEST_SKIP() << "set NBOS_TEST_PYTHON to a Python that has nbos_kernel";
        }
        python_ = python;
    }

    void open(const std::string& python) {
        std::string path = "/tmp/nbos-test-XXXXXX";
        directory_ = mkdtemp(path.data());
        host_ = std::make_unique<InterpreterHost>(
            loop_,
            InterpreterHostOptions{
                .directory = directory_,
                .workspace = directory_,
                .zygotes = {{"python3", {.argv = {python, "-m", "nbos_kernel.zygote"}, .env = {}}}},
                .default_spec = "python3",
                .warm = 1});
        host_->listen(*this);
    }

    void TearDown() override {
        host_.reset();
        std::error_code ignored;
        if (!directory_.empty()) {
            std::filesystem::remove_all(directory_, ignored);
        }
    }

    InterpreterId start(std::uint64_t replica) {
        return host_->start({.kernel = KernelId{Uuid{1, 1}},
                             .replica = ReplicaId{replica},
                             .session = "session-1",
                             .spec = "python3"});
    }

    void wait(const std::function<bool()>& condition) {
        bool expired = false;
        loop_.after(std::chrono::seconds(60), [&] { expired = true; });
        std::function<void()> look = [&] {
            if (condition() || expired) {
                loop_.stop();
            } else {
                loop_.after(std::chrono::milliseconds(2), look);
            }
        };
        loop_.post(look);
        loop_.run();
        ASSERT_FALSE(expired) << "nothing came within a minute";
    }

    void execute(InterpreterId id, std::uint64_t cell, const std::string& code, Sequence base) {
        const auto msg_id = "cell-" + std::to_string(cell);
        host_->run(id,
                   {.cell = CellNumber{cell}, .epoch = Epoch{1}, .msg_id = msg_id, .base = base});
        jupyter::Message message;
        message.header = R"({"msg_id": ")" + msg_id +
                         R"(", "msg_type": "execute_request", "session": "client", )"
                         R"("username": "u", "date": "2026-01-01T00:00:00.0Z", "version": "5.3"})";
        message.parent_header = message.metadata = "{}";
        message.content = R"({"code": )" + jupyter::json_quoted(code) +
                          R"(, "silent": false, "store_history": true, "user_expressions": {}, )"
                          R"("allow_stdin": false, "stop_on_error": true})";
        host_->send(id, message);
    }

    void interpreter_ready(InterpreterId id) override { ready_.insert(id); }
    void interpreter_applied(InterpreterId, Sequence sequence, bool ok,
                             const std::string& error) override {
        EXPECT_TRUE(ok) << error;
        applied_ = sequence;
    }
    void interpreter_delta(InterpreterId, CellNumber, Epoch, Bytes delta,
                           const std::string& error) override {
        EXPECT_EQ(error, "");
        deltas_.push_back(std::move(delta));
    }
    void interpreter_message(InterpreterId, jupyter::Message message) override {
        const auto header = jupyter::parse_header(message.header);
        if (header && header->msg_type == "execute_reply") {
            ++replies_;
            EXPECT_EQ(header->session, "session-1");
        }
        text_ += jupyter::string_field(message.content, "text");
    }
    void interpreter_ended(InterpreterId, const std::string& why) override { ended_ += why; }

    std::string python_;
    std::string directory_;
    EventLoop loop_;
    std::unique_ptr<InterpreterHost> host_;
    std::set<InterpreterId> ready_;
    Sequence applied_;
    std::vector<Bytes> deltas_;
    int replies_ = 0;
    std::string text_;
    std::string ended_;
};

TEST_F(InterpreterHostTest, ADeltaOfOneInterpreterContinuesInAnother) {
    open(python_);
    const auto first = start(1);
    const auto second = start(2);
    wait([&] { return ready_.size() == 2; });
    execute(first, 1, "x = [1, 2]\nprint('made')", Sequence{0});
    wait([&] { return deltas_.size() == 1 && replies_ == 1; });
    EXPECT_NE(text_.find("made"), std::string::npos);
    host_->apply(second, Sequence{0}, Sequence{1}, deltas_[0]);
    wait([&] { return applied_ == Sequence{1}; });
    execute(second, 2, "x.append(3)\nprint(sum(x))", Sequence{1});
    wait([&] { return deltas_.size() == 2 && replies_ == 2; });
    EXPECT_NE(text_.find("6"), std::string::npos);
}

TEST_F(InterpreterHostTest, AKilledInterpreterIsReportedWithItsReason) {
    open(python_);
    const auto id = start(1);
    wait([&] { return ready_.contains(id); });
    host_->crash(id);
    wait([&] { return !ended_.empty(); });
    EXPECT_NE(ended_.find("SIGKILL"), std::string::npos) << ended_;
}

TEST_F(InterpreterHostTest, APythonThatIsNotThereIsSaidSo) {
    open("/nonexistent/python");
    start(1);
    wait([&] { return !ended_.empty(); });
    EXPECT_NE(ended_.find("/nonexistent/python"), std::string::npos) << ended_;
}

}  // namespace
}  // namespace nbos::io
