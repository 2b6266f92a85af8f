#include "gateway/cell_answer.h"

namespace nbos::gateway {

std::optional<CellFailure> failure_of(const cluster::CellEnded& ended) {
    using replica::Ending;
    switch (ended.ending) {
        case Ending::kResult:
        case Ending::kExecutorLost:
            return CellFailure{
                "ExecutorLost",
                (ended.reason.empty() ? "its executor was lost" : ended.reason) +
                    "; the cell was not run again. All variables are kept as they were after the "
                    "cell before it: run it again if that is safe."};
        case Ending::kReset:
            return CellFailure{"KernelRestarted",
                               "the kernel was restarted before this cell ended, and begins anew: "
                               "its variables are gone. Run the cells again from the first one."};
        case Ending::kCancelled:
        case Ending::kAborted:
            break;
    }
    return std::nullopt;
}

}  // namespace nbos::gateway
