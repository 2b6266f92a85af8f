#include "cli/table.h"

#include <gtest/gtest.h>

namespace nbos::cli {
namespace {

TEST(Table, AlignsColumnsAndLeavesNoSpaceAtTheEnd) {
    EXPECT_EQ(as_table({{"HOST", "STATE"}, {"host-10", "up"}, {"a", ""}}),
              "HOST     STATE\n"
              "host-10  up\n"
              "a\n");
}

TEST(Table, NothingIsNothing) { EXPECT_EQ(as_table({}), ""); }

}  // namespace
}  // namespace nbos::cli
