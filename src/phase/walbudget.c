/* How much WAL the slot may hold back; see walbudget.h. */
#include "phase/walbudget.h"

enum { SLOW_PERCENT = 80, UNSLOW_PERCENT = 70 };
enum { BRAKE_LEAST = 50, BRAKE_MOST = 90 };
/* Without a budget: less than this is nothing to speak of on any server. */
static const int64_t WORTH_A_WORD_BYTES = INT64_C(1024) * 1024 * 1024;

int64_t
walbudget_smaller(int64_t a_bytes, int64_t b_bytes)
{
    return a_bytes < b_bytes ? a_bytes : b_bytes;
}

int
walbudget_percent(const WalBudget *budget)
{
    if (budget->budget_bytes == WALBUDGET_NONE || budget->budget_bytes == 0)
        return 0;
    if (budget->held_bytes >= budget->budget_bytes)
        return 100;
    return (int)((double)budget->held_bytes * 100 / (double)budget->budget_bytes);
}

/* From so much on it is warned of. */
static int64_t
warning_bytes(const WalBudget *budget)
{
    int64_t bytes = 2 * budget->expected_bytes;

    if (budget->budget_bytes != WALBUDGET_NONE)
        return budget->budget_bytes / 2;
    return bytes < WORTH_A_WORD_BYTES ? WORTH_A_WORD_BYTES : bytes;
}

/* By half is much where there is an end to it; where there is none, only twice is news. */
static int64_t
much_more_bytes(const WalBudget *budget)
{
    return budget->warned_bytes + (budget->budget_bytes == WALBUDGET_NONE
                                       ? budget->warned_bytes
                                       : budget->warned_bytes / 2);
}

static unsigned
judge_pace(WalBudget *budget, bool is_copying)
{
    int percent = walbudget_percent(budget);
    bool was_slowed = budget->is_slowed;

    budget->is_slowed = is_copying && percent >= (was_slowed ? UNSLOW_PERCENT : SLOW_PERCENT);
    if (budget->is_slowed == was_slowed)
        return 0;
    if (budget->is_slowed)
        return WALBUDGET_SLOW;
    /* there is nobody to go faster once the copy is over */
    return is_copying ? WALBUDGET_UNSLOW : 0;
}

static unsigned
judge_size(const WalBudget *budget)
{
    return budget->held_bytes >= warning_bytes(budget) &&
                   (budget->warned_bytes == 0 || budget->held_bytes >= much_more_bytes(budget))
               ? WALBUDGET_WARN
               : 0;
}

unsigned
walbudget_judge(WalBudget *budget, const WalLook *look)
{
    unsigned says;

    budget->held_bytes = look->held_bytes;
    budget->budget_bytes = walbudget_smaller(budget->max_bytes, look->limit_bytes);
    budget->is_servers = look->limit_bytes < budget->max_bytes;
    if (budget->held_bytes >= budget->budget_bytes)
        return WALBUDGET_STOP;
    says = judge_pace(budget, look->is_copying);
    /* that it is slowed says more than a warning */
    if ((says & WALBUDGET_SLOW) == 0)
        says |= judge_size(budget);
    if ((says & (WALBUDGET_SLOW | WALBUDGET_WARN)) != 0)
        budget->warned_bytes = budget->held_bytes;
    /* it has gone for the most part, and would be news again */
    if (budget->held_bytes < warning_bytes(budget) / 2)
        budget->warned_bytes = 0;
    return says;
}

int
walbudget_brake(const WalBudget *budget)
{
    int percent = walbudget_percent(budget);

    if (!budget->is_slowed)
        return 0;
    if (percent <= SLOW_PERCENT)
        return BRAKE_LEAST;
    return BRAKE_LEAST +
           (percent - SLOW_PERCENT) * (BRAKE_MOST - BRAKE_LEAST) / (100 - SLOW_PERCENT);
}
