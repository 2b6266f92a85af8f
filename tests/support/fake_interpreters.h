// Interpreters for tests of the agent: a namespace of strings, and four commands as cells.
//
//   set NAME VALUE     binds, and prints what it did
//   get NAME           prints the value; an error when there is none
//   mute               is idle again without a reply
//   hang               never ends, until the test says finish() or the interpreter dies
//
// Answers are queued and delivered by pump(), as the real ones come from the loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "agent/ports.h"

namespace nbos::testing {

class FakeInterpreters final : public agent::Interpreters {
public:
    void listen(agent::InterpreterListener& listener) { listener_ = &listener; }
    bool pump();  // delivers what is queued now; false when there was nothing
    std::size_t alive() const { return processes_.size(); }
    std::optional<std::string> value(KernelId kernel, const std::string& name) const;
    void finish_hanging();                         // every hanging cell ends well
    void print(const std::string& text);           // by every hanging cell
    void drop_request(const std::string& header);  // each says only that it was here, and an error
    void crash_all();
    void drop_all();  // the host lost its power: nothing is reported

    agent::InterpreterId start(const agent::Adoption& adoption) override;
    void load(agent::InterpreterId id, Sequence sequence, Bytes table) override;
    void apply(agent::InterpreterId id, Sequence base, Sequence sequence, Bytes delta) override;
    void run(agent::InterpreterId id, const agent::RunOrder& order) override;
    void send(agent::InterpreterId id, const jupyter::Message& message) override;
    void interrupt(agent::InterpreterId id) override;
    void crash(agent::InterpreterId id) override;
    void discard(agent::InterpreterId id) override;

private:
    struct Process {
        KernelId kernel;
        std::map<std::string, std::string> names;
        CellNumber cell;
        Epoch epoch;
        std::optional<std::string> hanging;  // header of the request
        bool catches_interrupts = false;
    };
    void execute(agent::InterpreterId id, const std::string& header, const std::string& code);
    void end_cell(agent::InterpreterId id, const std::string& header, bool good,
                  const std::string& printed, Bytes delta);
    void merge(agent::InterpreterId id, Sequence sequence, const Bytes& delta);
    void say(agent::InterpreterId id, jupyter::Channel channel, const std::string& type,
             const std::string& parent, const std::string& content);
    void later(agent::InterpreterId id, std::function<void()> work);

    agent::InterpreterListener* listener_ = nullptr;
    std::map<agent::InterpreterId, Process> processes_;
    std::deque<std::pair<agent::InterpreterId, std::function<void()>>> queue_;
    std::uint64_t last_id_ = 0;
    std::uint64_t messages_ = 0;
};

// A delta that binds one name, and what one holds.
Bytes delta_binding(const std::string& name, const std::string& value);
std::map<std::string, std::string> bindings_in(const Bytes& delta);

}  // namespace nbos::testing
