// The interpreter processes of a host: warm ones ready to be adopted, and those of the replicas.
//
// Each kernelspec has a zygote (io/zygote.h) and a few warm interpreters forked from it, connected
// and probed, so that starting a kernel costs one round trip. Implements agent::Interpreters.
//
// Files    A private directory of mode 0700 with a short path (socket paths end at 107 bytes).
// Threads  Loop thread only; the listener is called from the loop, never from inside a call.
// Errors   What keeps an interpreter from starting is reported as its end, with the text it wrote.
// Source   docs/reference/interpreter-protocol.md
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/ports.h"
#include "io/event_loop.h"
#include "io/zmq_port.h"
#include "io/zygote.h"

namespace nbos::io {

struct InterpreterHostOptions {
    std::string directory;  // exists, 0700, short; what an earlier agent left there is taken up
    std::string workspace;  // where kernels start that name no directory
    // By kernelspec: how to start its zygote, e.g. /path/python -m nbos_kernel.zygote.
    std::map<std::string, ZygoteCommand> zygotes;
    std::string default_spec;  // the one that is kept warm from the start
    int warm = 2;
    std::chrono::milliseconds start_timeout{60'000};
    // Its other end is held by whoever starts agents again: while it is whole, interpreters outlive
    // the agent. -1: they end with it.
    int lifeline = -1;
    // While it says no, outputs stay in the interpreters, and code that prints waits. Empty:
    // always.
    std::function<bool()> takes_outputs;
    std::chrono::milliseconds survivors_wait{
        45'000};  // then those that were not claimed are killed
};

class InterpreterHost final : public agent::Interpreters {
public:
    InterpreterHost(EventLoop& loop, InterpreterHostOptions options);
    ~InterpreterHost() override;

    void listen(agent::InterpreterListener& listener);  // once, before anything else

    agent::InterpreterId start(const agent::Adoption& adoption) override;
    bool survives(agent::InterpreterId id) const override;
    std::string process_name(agent::InterpreterId id) const override;
    void resume(agent::InterpreterId id) override;
    void settled(agent::InterpreterId id, CellNumber cell) override;
    void expect(agent::InterpreterId id, const agent::Survivor::Claim& claim) override;
    void load(agent::InterpreterId id, Sequence sequence, Bytes table) override;
    void apply(agent::InterpreterId id, Sequence base, Sequence sequence, Bytes delta) override;
    void run(agent::InterpreterId id, const agent::RunOrder& order) override;
    void send(agent::InterpreterId id, const jupyter::Message& message) override;
    void interrupt(agent::InterpreterId id) override;
    void crash(agent::InterpreterId id) override;
    void discard(agent::InterpreterId id) override;
    void discard_survivors(KernelId kernel, ReplicaId replica) override;

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace nbos::io
