"""Bands around effects hold as often as they promise, in nearly every calibration, and for bold futures as for timid ones."""

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.errors import ConfigError, ShapeError
from foretell.model.heads import Errors
from foretell.plan.effects import DOUBT, Misses, effect, fit_bands, gone, misses_of_differences, together

STEPS = 6


def drawn(count: int, rng: np.random.Generator, *, bold: float = 1.0) -> Misses:
    """Errors that grow over time and with what is gone, hang together and have heavy tails, of two quantities."""
    far = np.abs(rng.normal(size=(count, STEPS))).cumsum(1)
    errors = rng.standard_t(4, (count, STEPS, 2)).cumsum(1) * (1 + bold * far[..., None]) * [1.0, 20.0]
    return Misses(torch.from_numpy(errors), torch.from_numpy(far))


def left_out(new: Misses, alpha: float, calibration: Misses) -> Tensor:
    """Which of the new errors leave their band anywhere: (M, Q)."""
    bands = fit_bands(calibration, alpha)
    return (new.errors.abs() > bands.least + bands.wider * new.gone[..., None]).any(1)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_bands_hold_at_all_steps_as_often_as_they_promise_in_nearly_every_calibration(alpha: float) -> None:
    rng = np.random.default_rng(0)
    new = drawn(20_000, rng)
    rates = torch.stack([left_out(new, alpha, drawn(250, rng)).double().mean(0) for _ in range(400)])
    slack = 3 * (DOUBT * (1 - DOUBT) / 400) ** 0.5
    assert ((rates > alpha).double().mean(0) <= DOUBT + slack).all()
    assert (rates.mean(0) > alpha / 3).all()  # nor are they as wide as one likes


def test_bands_hold_for_bold_futures_as_for_timid_ones() -> None:
    rng = np.random.default_rng(1)
    new, calibration = drawn(20_000, rng), drawn(4000, rng)
    bold = new.gone[:, -1] > new.gone[:, -1].quantile(0.8)
    left = left_out(new, 0.1, calibration).double()
    alike = left_out(new, 0.1, calibration._replace(gone=torch.zeros_like(calibration.gone))).double()
    assert left[bold].mean() < 0.14
    assert left[~bold].mean() > 0.05
    assert alike[bold].mean() > 0.16  # one band for all is too narrow for those that matter most


def test_where_errors_do_not_grow_with_what_is_gone_bands_do_not_either() -> None:
    bands = fit_bands(drawn(20_000, np.random.default_rng(2), bold=0.0), 0.1)
    assert (bands.wider.mean(0) < 0.05 * bands.least.mean(0)).all()
    assert (bands.least.diff(dim=0) > 0).all()


def test_bands_are_infinite_where_too_little_is_known() -> None:
    rng = np.random.default_rng(3)
    needed = 45  # 0.95 ** 45 is below a tenth, so that none of so many outside the band says that few are
    enough, short, none = (fit_bands(drawn(n, rng)) for n in (needed + needed // 4, needed + needed // 4 - 1, 0))
    far = torch.ones(STEPS + 2)
    assert enough.margin(far)[:STEPS].isfinite().all()
    assert enough.margin(far)[STEPS:].isinf().all()  # beyond what was calibrated
    assert enough.margin(far[:2]).shape == (2, 2)
    assert short.margin(far).isinf().all()
    assert none.margin(far).isinf().all()
    assert effect(torch.ones(8, 2), torch.zeros(8, 2), none.margin(far)).sign.eq(0).all()
    with pytest.raises(ConfigError, match="alpha"):
        fit_bands(drawn(400, rng), 1.0)


def test_what_never_errs_has_a_band() -> None:
    bands = fit_bands(Misses(torch.zeros(200, 3, 1), torch.zeros(200, 3)))
    assert bands.margin(torch.ones(3)).isfinite().all()


def test_gone_is_counted_in_deviations_from_the_start() -> None:
    quantities, now = torch.tensor([[[1.0, 10.0], [4.0, 50.0]]]), torch.tensor([[1.0, 10.0]])
    torch.testing.assert_close(gone(quantities, now, torch.tensor([1.0, 10.0])), torch.tensor([[0.0, 5.0]]))
    assert gone(torch.zeros(2, 3, 0), torch.zeros(2, 0), torch.ones(0)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_an_effect_has_a_sign_where_it_is_clear_of_its_band() -> None:
    found = effect(torch.tensor([[3.0, -3.0, 1.0]]), torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[1.0, 5.0, 0.5]]))
    assert found.sign.tolist() == [[1, 0, 0]]
    with pytest.raises(ShapeError, match="three of"):
        effect(torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(2, 1))


def errors_of(foretold: Tensor, truth: Tensor, now: Tensor, between: Tensor) -> Errors:
    nothing = {"mean": torch.zeros(1, 1), "familiar": torch.eye(1), "surprises": torch.ones(1)}
    return Errors(precision=torch.eye(1), truth=truth, foretold=foretold, now=now, between=between, **nothing)


def test_what_is_misread_at_the_start_falls_out_of_a_difference() -> None:
    """Things move evenly and are read wrong by as much at all times: changes are foretold without error."""
    place = torch.randn(7, 1, 1, generator=torch.Generator().manual_seed(0))
    frames = place + torch.arange(1.0, 7)[None, :, None]
    truth, wrong, std = frames[:, 1::2], 5 * place, torch.ones(1)
    errors = errors_of(truth + wrong, truth, (place + wrong)[:, 0], frames)
    one_past = misses_of_differences(errors, std, one_past=True)
    assert one_past.errors.shape == (3, 3, 1)
    torch.testing.assert_close(one_past.errors, torch.zeros(3, 3, 1), atol=1e-5, rtol=0)
    each = torch.tensor([2.0, 4.0, 6.0])  # gone from the start, by each of the two
    torch.testing.assert_close(one_past.gone, together(each, each).expand(3, 3))
    everything = misses_of_differences(errors, std, one_past=False)
    torch.testing.assert_close(everything.errors[:, 0, 0], 5 * (place[:3].abs() + place[3:6].abs())[:, 0, 0])
    late = errors_of(truth + wrong + place, truth, (place + wrong)[:, 0], frames)
    missed = misses_of_differences(late, std, one_past=True).errors
    torch.testing.assert_close(missed[:, 0, 0], (place[:3].abs() + place[3:6].abs())[:, 0, 0])


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_the_band_of_strangers_holds_for_futures_that_err_to_one_side_to_opposite_ones_or_by_chance(
    sign: float,
) -> None:
    rng = torch.Generator().manual_seed(1)

    def errors_drawn(count: int) -> Tensor:
        return torch.randn(count, 3, 1, generator=rng)

    still, foretold = torch.zeros(4000, 3, 1), errors_drawn(4000)
    bands = fit_bands(
        misses_of_differences(errors_of(foretold, still, still[:, 0], still), torch.ones(1), one_past=True), 0.1
    )
    one, other = errors_drawn(4000), errors_drawn(4000)
    far = together(one.norm(dim=-1), other.norm(dim=-1))
    wrong = one - other if sign == 0 else one.abs() - sign * other.abs()
    assert (wrong.abs() <= bands.least + bands.wider * far[..., None]).all(1).double().mean() > 0.9
