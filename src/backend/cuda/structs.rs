// What the host passes to kernels, declared once for both users: args.rs makes the structures from it, and build.rs
// checks those of kernels/ against it, field by field. So this is not a module but a macro call that both include.

structures! {
    /// Dropout of one call.
    DropoutArgs {
        dropped: u32,
        keep: f32,
        site: u32,
        padding: u32,
    }

    /// A frozen matrix; `weights` says what lies where.
    MatrixArgs {
        codes: Address,
        scales: Address,
        block_scales: Address,
        mean_scale: f32,
        format: Format,
        stored_rows: u32,
        first: u32,
    }

    /// Single values added to a matrix.
    EntriesArgs {
        places: Address,
        values: Address,
        lines: u32,
        count: u32,
    }

    SparseAddArgs {
        batch: Address,
        x: Address,
        y: Address,
        entries: EntriesArgs,
        inputs: u32,
        outputs: u32,
        rows: u32,
        padding: u32,
    }

    SparseGradArgs {
        batch: Address,
        state: Address,
        dy: Address,
        x: Address,
        ids: Address,
        entries: EntriesArgs,
        grad: Address,
        inputs: u32,
        outputs: u32,
        rows: u32,
        padding: u32,
    }

    SparseVectorArgs {
        places: Address,
        values: Address,
        base: Address,
        vector: Address,
        grad: Address,
        count: u32,
        padding: u32,
    }

    ActivateArgs {
        batch: Address,
        x: Address,
        out: Address,
        slope: Address,
        dx: Address,
        partial: Address,
        width: u32,
        rows: u32,
        activation: u32,
        slope_kind: u32,
    }

    GemmArgs {
        batch: Address,
        x: Address,
        w: MatrixArgs,
        out: Address,
        bias: [Address; 3],
        derivative: Address,
        partial: Address,
        n: u32,
        k: u32,
        bias_part: u32,
        rows: u32,
        activation: u32,
        derivative_kind: u32,
    }

    /// On Hopper.
    RingArgs {
        x: TensorMap,
        w: TensorMap,
        gemm: GemmArgs,
        stages: u32,
        left_map: u32,
        padding: [u32; 14],
    }

    NormForwardArgs {
        batch: Address,
        x: Address,
        residual: Address,
        gamma: Address,
        beta: Address,
        sum: Address,
        x_hat: Address,
        rstd: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        rows: u32,
        x_hat_kind: u32,
    }

    NormBackwardArgs {
        batch: Address,
        dx: Address,
        beside: Address,
        x_hat: Address,
        rstd: Address,
        gamma: Address,
        d_branch: Address,
        partial_beta: Address,
        partial_bias: Address,
        dropout: DropoutArgs,
        width: u32,
        rows: u32,
        x_hat_kind: u32,
        blocks: u32,
        finish: ColumnFinishArgs,
    }

    NormRestoreArgs {
        batch: Address,
        x_hat: Address,
        gamma: Address,
        beta: Address,
        out: Address,
        width: u32,
        rows: u32,
    }

    EmbedArgs {
        batch: Address,
        ids: Address,
        positions: Address,
        type_ids: Address,
        word: MatrixArgs,
        position: MatrixArgs,
        token_type: MatrixArgs,
        beside_word: EntriesArgs,
        beside_position: EntriesArgs,
        beside_type: EntriesArgs,
        gamma: Address,
        beta: Address,
        out: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        types: u32,
        padding: u32,
    }

    WeightGradArgs {
        batch: Address,
        state: Address,
        dy: Address,
        x: Address,
        grad: Address,
        m: u32,
        n: u32,
    }

    RefreshArgs {
        value: Address,
        copy: Address,
        count: u64,
    }

    ColumnsArgs {
        batch: Address,
        x: Address,
        y: Address,
        dropout: DropoutArgs,
        width: u32,
        taken: u32,
        from: u32,
        rows: u32,
        times: f32,
        padding: u32,
    }

    ScaleArgs {
        batch: Address,
        x: Address,
        factor: Address,
        out: Address,
        width: u32,
        scaled: u32,
        rows: u32,
        padding: u32,
    }

    ScaleBackArgs {
        batch: Address,
        dx: Address,
        x: Address,
        factor: Address,
        slope: Address,
        partial: Address,
        width: u32,
        scaled: u32,
        rows: u32,
        slope_kind: u32,
    }

    EmbedBackwardArgs {
        batch: Address,
        ids: Address,
        positions: Address,
        type_ids: Address,
        word: MatrixArgs,
        position: MatrixArgs,
        token_type: MatrixArgs,
        beside_word: EntriesArgs,
        beside_position: EntriesArgs,
        beside_type: EntriesArgs,
        gamma: Address,
        dx: Address,
        partial_gamma: Address,
        partial_beta: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        types: u32,
        padding: u32,
    }

    TableGradArgs {
        batch: Address,
        state: Address,
        ids: Address,
        dx: Address,
        grad: Address,
        width: u32,
        padding: u32,
    }

    ColumnPartialArgs {
        batch: Address,
        dy: Address,
        factor: Address,
        ids: Address,
        partial: Address,
        dropout: DropoutArgs,
        width: u32,
        rows: u32,
        only: u32,
        factor_kind: u32,
    }

    /// A column sum whose partial sums are ready.
    FinishSum {
        partial: Address,
        grad: Address,
        width: u32,
        tile_rows: u32,
        rows: u32,
        by_sequence: u32,
        most: u32,
        padding: u32,
    }

    ColumnFinishArgs {
        batch: Address,
        cu_seqlens: Address,
        state: Address,
        sums: [FinishSum; 32],
        blocks: u32,
        padding: u32,
    }

    AttentionArgs {
        batch: Address,
        cu_seqlens: Address,
        qkv: Address,
        out: Address,
        lse: Address,
        dout: Address,
        dqkv: Address,
        delta: Address,
        partial_query: Address,
        partial_value: Address,
        dropout: DropoutArgs,
        heads: u32,
        head_dim: u32,
        scale: f32,
        first_sequence: u32,
    }

    PoolArgs {
        batch: Address,
        cu_seqlens: Address,
        labelled: Address,
        state: Address,
        x: Address,
        pooled: Address,
        width: u32,
        mean: u32,
        pooled_rows: u32,
        padding: u32,
    }

    FirstTokenArgs {
        batch: Address,
        cu_seqlens: Address,
        tokens: Address,
        first: Address,
        width: u32,
        padding: u32,
    }

    FirstAttentionArgs {
        batch: Address,
        cu_seqlens: Address,
        query: Address,
        key_value: Address,
        out: Address,
        lse: Address,
        dout: Address,
        d_query: Address,
        d_key_value: Address,
        partial_query: Address,
        partial_value: Address,
        dropout: DropoutArgs,
        heads: u32,
        head_dim: u32,
        scale: f32,
        padding: u32,
    }

    DenseArgs {
        batch: Address,
        state: Address,
        x: Address,
        weight: Address,
        frozen: MatrixArgs,
        bias: Address,
        y: Address,
        dy: Address,
        dx: Address,
        dweight: Address,
        dbias: Address,
        dropout: DropoutArgs,
        inputs: u32,
        outputs: u32,
        tanh: u32,
        rows: u32,
        table: u32,
        input_blocks: u32,
        weight_blocks: u32,
        stream: u32,
    }

    ClassifyArgs {
        dense: DenseArgs,
        loss: LossArgs,
        partial_weight: Address,
        partial_bias: Address,
        partial_loss: Address,
    }

    ActNormArgs {
        batch: Address,
        x: Address,
        y: Address,
        dx: Address,
        gamma: Address,
        beta: Address,
        width: u32,
        eps: f32,
        activation: u32,
        rows: u32,
    }

    LossArgs {
        batch: Address,
        cu_seqlens: Address,
        logits: Address,
        labels: Address,
        class_weights: Address,
        dlogits: Address,
        labelled: Address,
        losses: Address,
        state: Address,
        numbers: Address,
        outputs: u32,
        kind: u32,
    }

    GradNormArgs {
        gradient: Address,
        partial: Address,
        arrived: Address,
        state: Address,
        numbers: Address,
        count: u64,
        sums: u32,
        padding: u32,
        finish: ColumnFinishArgs,
    }

    AdamWArgs {
        value: Address,
        gradient: Address,
        moment1: Address,
        moment2: Address,
        state: Address,
        numbers: Address,
        count: u64,
    }

    /// The head of the batch in device memory.
    #[derive(Default, Pod)]
    BatchHeader {
        tokens: u32,
        sequences: u32,
        max_len: u32,
        step: u32,
        seed_low: u32,
        seed_high: u32,
        first_token: u32,
        first_sequence: u32,
        labelled: u32,
    }

    /// The device's part of an optimizer step.
    #[derive(Pod)]
    StepState {
        scale: f32,
        inverse_scale: f32,
        good_steps: u32,
        clip: f32,
        growth_interval: u32,
        padding: [u32; 7],
        ended: [StepOutcome; 2],
        now: StepOutcome,
    }

    /// The outcome of a step.
    #[derive(Pod)]
    StepOutcome {
        loss: f32,
        grad_norm: f32,
        skip: u32,
        padding: u32,
    }

    /// What a step needs to know from the host.
    #[derive(Pod)]
    StepNumbers {
        weight: f32,
        clip_norm: f32,
        decay: f32,
        beta1: f32,
        beta2: f32,
        one_minus_beta1: f32,
        one_minus_beta2: f32,
        step_size: f32,
        root_correction: f32,
        eps: f32,
        turn: u32,
        padding: u32,
    }
}
